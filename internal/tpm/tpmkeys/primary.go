// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// SessionNonce is the size in bytes of nonces in sessions, the least that TPMs accept.
const SessionNonce = 16

// Primary is a primary key, the SRK or an EK, while it is in use.
type Primary struct {
	Handle    tpm2.TPMHandle
	Public    *keys.Public
	transient bool // to be flushed after use
}

// Auth returns the key as the parent of a command, under session. Storage root keys of the
// TCG's template have an empty authorization value.
func (p *Primary) Auth(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: p.Handle, Name: tpm2.TPM2BName{Buffer: p.Public.Name()}, Auth: session}
}

// Session returns an HMAC session that is salted to the key, so that an attacker who reads
// the bus cannot decrypt what the session encrypts.
func (p *Primary) Session(options ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, SessionNonce, append(options, tpm2.Salted(p.Handle, p.Public.Area()))...)
}

// flush frees the slot of a transient key.
func (p *Primary) flush(t transport.TPM) error {
	if !p.transient {
		return nil
	}
	p.transient = false
	return flush(t, p.Handle)
}

func flush(t transport.TPM, h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(t); err != nil {
		return fmt.Errorf("flush handle 0x%08x: %w", uint32(h), err)
	}
	return nil
}

// createPrimary derives the key of template, and checks that the TPM made that key.
func createPrimary(t transport.TPM, hierarchy tpm2.AuthHandle, template tpm2.TPMTPublic) (*Primary, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return nil, err
	}
	public, err := madeFrom(rsp.OutPublic.Bytes(), template)
	if err != nil {
		return nil, errors.Join(err, flush(t, rsp.ObjectHandle))
	}
	return &Primary{Handle: rsp.ObjectHandle, Public: public, transient: true}, nil
}

// madeFrom parses the public area of a new key, and checks that it is of template.
func madeFrom(b []byte, template tpm2.TPMTPublic) (*keys.Public, error) {
	public, err := keys.ParsePublic(b)
	if err == nil && !tpmwire.MadeFrom(public.Area(), template) {
		err = errors.New("the TPM made another key than it was asked for")
	}
	return public, err
}

// errPublic marks a public area that this package does not accept.
var errPublic = errors.New("public area is not usable")

// readPublic reads the public area at a handle.
func readPublic(t transport.TPM, h tpm2.TPMHandle) (*keys.Public, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read the public area at 0x%08x: %w", uint32(h), err)
	}
	p, err := keys.ParsePublic(rsp.OutPublic.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w at 0x%08x: %w", errPublic, uint32(h), err)
	}
	return p, nil
}

// Absent reports whether err says that nothing is at a handle. The TPM says TPM_RC_HANDLE,
// the reference code of some older ones TPM_RC_REFERENCE_H0.
func Absent(err error) bool {
	return errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCReferenceH0)
}
