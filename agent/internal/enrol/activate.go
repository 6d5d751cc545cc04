// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// AK returns the attestation key, and the endorsement key to make a challenge for, see
// endorsement. Both are answered from memory.
func (e *Enroller) AK(ctx context.Context) (api.AK, error) {
	ak, err := e.key.Wait(ctx)
	if err != nil {
		return api.AK{}, err
	}
	ek, err := e.endorsement(ctx)
	if err != nil {
		return api.AK{}, err
	}
	out := api.AK{Public: ak.Public(), Name: evidence.Bytes(ak.Name()), EK: ek.Public.Bytes()}
	if ek.Certificate != nil {
		out.Certificates = []evidence.Bytes{ek.Certificate}
	}
	return out, nil
}

// rsaSecret is the size in bytes of a secret that is encrypted to an RSA 2048 key.
const rsaSecret = 256

// Activate makes the TPM open a credential. The size of the secret tells which endorsement
// key it was made for.
func (e *Enroller) Activate(ctx context.Context, credential, secret []byte) ([]byte, error) {
	ak, err := e.key.Wait(ctx)
	if err != nil {
		return nil, err
	}
	auths, err := ReadAuths(e.c.TPM)
	if err != nil {
		return nil, err
	}
	var c keys.Challenge
	if c.Credential, err = contents("/credential", credential); err != nil {
		return nil, err
	}
	if c.Secret, err = contents("/secret", secret); err != nil {
		return nil, err
	}
	kind := keys.EKECC256
	if len(c.Secret) == rsaSecret {
		kind = keys.EKRSA2048
	}
	var answer []byte
	err = e.do(ctx, func(t transport.TPM) (err error) {
		answer, err = ak.Activate(t, kind, &c, auths)
		return err
	})
	return answer, e.Note(err)
}

// contents returns the bytes of a TPM2B after its two bytes of size, big-endian (TPM 2.0
// Part 2, section 10.4).
func contents(where string, b []byte) ([]byte, error) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return nil, problem.Invalid(where, fmt.Sprintf("%d bytes are not a TPM2B: want two bytes of size, then that many bytes", len(b)))
	}
	return b[2:], nil
}
