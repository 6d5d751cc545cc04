// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
)

// AK shows the attestation key, and the endorsement key that a challenge is to be
// made for: the one that has a certificate, RSA first since clouds and makers certify
// that; P-256 where neither has one.
func (d *Daemon) AK(ctx context.Context) (api.AK, error) {
	p, err := d.ready(ctx)
	if p.ak == nil {
		return api.AK{}, missing(err)
	}
	auths, err := readAuths(d.o.Config.TPM)
	if err != nil {
		return api.AK{}, err
	}
	var ek *tpmkeys.EK
	err = p.device.Do(ctx, func(t transport.TPM) error {
		kind := keys.EKECC256
		for _, k := range []keys.EKKind{keys.EKRSA2048, keys.EKECC256} {
			_, err := tpmkeys.ReadEKCertificate(t, k)
			if err == nil {
				kind = k
				break
			}
			if !errors.Is(err, tpmkeys.ErrNoCertificate) {
				return err
			}
		}
		var err error
		ek, err = tpmkeys.ReadEK(t, kind, auths)
		return err
	})
	if err != nil {
		return api.AK{}, fmt.Errorf("%w: read the endorsement key: %w", errNoTPM, err)
	}
	out := api.AK{Public: p.ak.Public(), Name: evidence.Bytes(p.ak.Name()), EK: ek.Public.Bytes()}
	if ek.Certificate != nil {
		out.Certificates = []evidence.Bytes{ek.Certificate}
	}
	return out, nil
}

// rsaSecret is the size in bytes of a secret that is encrypted to an RSA 2048 key.
const rsaSecret = 256

// Activate has the TPM open a credential. Which endorsement key it was made for
// shows in the size of the secret.
func (d *Daemon) Activate(ctx context.Context, credential, secret []byte) ([]byte, error) {
	p, err := d.ready(ctx)
	if p.ak == nil {
		return nil, missing(err)
	}
	auths, err := readAuths(d.o.Config.TPM)
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
	err = p.device.Do(ctx, func(t transport.TPM) (err error) {
		answer, err = p.ak.Activate(t, kind, &c, auths)
		return err
	})
	return answer, d.noteAK(err)
}

// contents takes the two bytes of size, big-endian, off a TPM2B (TPM 2.0 Part 2,
// section 10.4).
func contents(where string, b []byte) ([]byte, error) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return nil, &api.FieldError{Where: where, Err: fmt.Errorf("%d bytes are not a TPM2B: want two bytes of size, then as many as it says", len(b))}
	}
	return b[2:], nil
}
