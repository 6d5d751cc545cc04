// SPDX-License-Identifier: Apache-2.0

package google

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// Provision writes templates and certificates for the machine i into a TPM without owner, in the
// place of what is there.
func (a *Authority) Provision(t transport.TPM, i keys.GoogleInstance) error {
	for index, template := range Templates() {
		key, err := Key(t, template)
		if err != nil {
			return err
		}
		certificate, err := a.Certify(key, i, nil)
		if err != nil {
			return err
		}
		if err := errors.Join(Write(t, index, certificate), Write(t, index+1, tpm2.Marshal(template))); err != nil {
			return err
		}
	}
	return nil
}

// Key returns the public half of the key that a TPM makes of a template.
func Key(t transport.TPM, template tpm2.TPMTPublic) (crypto.PublicKey, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("make an attestation key of a template: %w", err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(t); err != nil {
		return nil, err
	}
	area, err := tpmwire.ParsePublic(made.OutPublic.Bytes())
	if err != nil {
		return nil, err
	}
	k, err := tpmwire.SigningKey(area, made.OutPublic.Bytes())
	if err != nil {
		return nil, err
	}
	if k.RSA != nil {
		return k.RSA, nil
	}
	return k.ECC, nil
}

// chunk is how many bytes one command writes.
const chunk = 512

// Write writes b to an NV index that the owner may read, in the place of what is there. It removes
// the index if b is nil.
func Write(t transport.TPM, index tpm2.TPMHandle, b []byte) error {
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if old, err := (tpm2.NVReadPublic{NVIndex: index}).Execute(t); err == nil {
		if _, err := (tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: index, Name: old.NVName}}).Execute(t); err != nil {
			return fmt.Errorf("free NV index 0x%08x: %w", uint32(index), err)
		}
	}
	if b == nil {
		return nil
	}
	public := tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(b)), Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NoDA: true}}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}).Execute(t); err != nil {
		return fmt.Errorf("define NV index 0x%08x: %w", uint32(index), err)
	}
	for at := 0; at < len(b); at += chunk {
		now, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t) // the name changes at the first write
		if err == nil {
			_, err = tpm2.NVWrite{
				AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: index, Name: now.NVName}, Offset: uint16(at),
				Data: tpm2.TPM2BMaxNVBuffer{Buffer: b[at:min(at+chunk, len(b))]},
			}.Execute(t)
		}
		if err != nil {
			return fmt.Errorf("write NV index 0x%08x: %w", uint32(index), err)
		}
	}
	return nil
}
