// SPDX-License-Identifier: Apache-2.0

package svsm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
)

// attestationHandle is where the software vTPM keeps its attestation key. No specification
// names a handle: an agent finds the key by its public area.
const attestationHandle tpm2.TPMHandle = 0x81010020

// attestationTemplate is the attestation key of the software vTPM: ECDSA over SHA-256 on P-256,
// restricted, below the endorsement hierarchy.
var attestationTemplate = tpm2.TPMTPublic{
	Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		CurveID: tpm2.TPMECCNistP256,
		Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
}

// Endorsement returns the endorsement key that SVSMs name: of template L-1.
func Endorsement(t transport.TPM) ([]byte, error) {
	ek, err := tpmkeys.ReadEK(t, keys.EKRSA2048, tpmkeys.Auths{})
	if err != nil {
		return nil, fmt.Errorf("endorsement key of the software vTPM: %w", err)
	}
	return ek.Public.Bytes(), nil
}

// Attestation returns the attestation key of the software vTPM, and makes it if that has none.
func Attestation(t transport.TPM) ([]byte, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(attestationTemplate)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("attestation key of the software vTPM: %w", err)
	}
	public := made.OutPublic.Bytes()
	_, there, err := tpmkeys.Persistent(t, public)
	if err == nil && !there {
		_, err = tpm2.EvictControl{
			Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: attestationHandle,
		}.Execute(t)
	}
	_, flushErr := tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(t)
	if err = errors.Join(err, flushErr); err != nil {
		return nil, fmt.Errorf("attestation key of the software vTPM: %w", err)
	}
	return public, nil
}
