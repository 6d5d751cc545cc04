// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// An AKChoice says which key of the TPM is the attestation key, in the configuration.
type AKChoice string

// The choices. Auto is the key that the platform vouches for, and own if it vouches for none.
const (
	AKAuto   AKChoice = "auto"
	AKOwn    AKChoice = "own"     // made by the agent, below the storage root key: ECDSA on P-256
	AKOwnRSA AKChoice = "own-rsa" // the same with RSA of 2,048 bits, for relying parties that take nothing else
	AKAzure  AKChoice = "azure"   // made by Azure's paravisor, at 0x81000003
	AKSVSM   AKChoice = "svsm"    // named by the manifest of an SVSM
	AKGCPECC AKChoice = "gcp-ecc" // of Google's template at NV index 0x01c10003
	AKGCPRSA AKChoice = "gcp-rsa" // of Google's template at NV index 0x01c10001
)

// AKChoices returns all choices, in the order of the documentation.
func AKChoices() []AKChoice {
	return []AKChoice{AKAuto, AKOwn, AKOwnRSA, AKAzure, AKSVSM, AKGCPECC, AKGCPRSA}
}

// Known reports whether c is one of [AKChoices].
func (c AKChoice) Known() bool { return slices.Contains(AKChoices(), c) }

// Own reports whether c is a key that the agent makes and stores.
func (c AKChoice) Own() bool { return c == AKOwn || c == AKOwnRSA }

// AzureAK is the handle of the attestation key that Azure's paravisor makes. Its runtime data
// name the key, as HCLAkPub. Each boot of the machine has the same key until its vTPM is made
// anew.
const AzureAK tpm2.TPMHandle = 0x81000003

// Errors of an attestation key that the platform keeps.
var (
	// ErrNotKept is returned if the TPM has no attestation key at the handle of the platform.
	ErrNotKept = errors.New("the TPM has no attestation key of the platform")
	// ErrKeptOther is returned if the key at the handle is another than before.
	ErrKeptOther = errors.New("the TPM has another attestation key of the platform than before: restart the agent")
)

// Kept returns the attestation key that the platform keeps in the TPM. It has no authorization
// value: each program that may open the TPM can quote with it. What a quote says is the TPM's
// word all the same, since the key is restricted. A program with the authorization of the owner,
// which may be empty, can put another key there: then quotes fail with [ErrKeptOther].
func Kept(t transport.TPM, h tpm2.TPMHandle) (*AK, error) {
	p, err := readPublic(t, h)
	switch {
	case err == nil:
	case Absent(err):
		return nil, fmt.Errorf("find the attestation key at 0x%08x: %w", uint32(h), ErrNotKept)
	case errors.Is(err, errPublic):
		return nil, fmt.Errorf("find the attestation key at 0x%08x: %w: %w", uint32(h), ErrNotKept, err)
	default:
		return nil, fmt.Errorf("find the attestation key at 0x%08x: %w", uint32(h), err)
	}
	if err := p.CheckAttestation(); err != nil {
		return nil, fmt.Errorf("find the attestation key at 0x%08x: %w: %w", uint32(h), ErrNotKept, err)
	}
	return open(t, &AK{public: p, keep: true, find: func(t transport.TPM) (tpm2.TPMHandle, error) {
		switch now, err := readPublic(t, h); {
		case err != nil && (Absent(err) || errors.Is(err, errPublic)):
			return 0, fmt.Errorf("%w: %w", ErrKeptOther, err)
		case err != nil:
			return 0, err
		case !now.Name().Equal(p.Name()):
			return 0, ErrKeptOther
		}
		return h, nil
	}})
}
