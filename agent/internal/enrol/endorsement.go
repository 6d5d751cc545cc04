// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sync/singleflight"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
)

// endorsements keeps the endorsement key and its certificate. To derive an RSA key takes a
// TPM up to a minute: a client that asked for it again and again would keep all others from
// the TPM. The key changes only with the TPM itself, so that it is read again after the
// device was down. A certificate that is written into the TPM later is seen after a restart.
type endorsements struct {
	reading singleflight.Group

	mu    sync.Mutex  // guards the two below
	known *tpmkeys.EK // nil if none was read
	since time.Time   // of the device's state when it was read
}

// readEK is how long reading the endorsement key may take.
const readEK = 2 * time.Minute

// endorsement returns the endorsement key to make a challenge for: the one that has a
// certificate, RSA first since clouds and makers certify that, P-256 if neither has one.
func (e *Enroller) endorsement(ctx context.Context) (*tpmkeys.EK, error) {
	device, up := e.c.Device.Now()
	if !up {
		return nil, e.c.Supervisor.Missing()
	}
	k, since := &e.endorsements, device.State().Since
	if ek := k.at(since); ek != nil {
		return ek, nil
	}
	// One reading serves all who ask meanwhile. It does not end with the first of them.
	reading := k.reading.DoChan("", func() (any, error) {
		if ek := k.at(since); ek != nil {
			return ek, nil
		}
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), readEK)
		defer cancel()
		ek, err := e.readEK(own)
		if err == nil {
			k.keep(ek, since)
		}
		return ek, err
	})
	select {
	case r := <-reading:
		ek, _ := r.Val.(*tpmkeys.EK)
		return ek, r.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("read the endorsement key: %w", ctx.Err())
	}
}

// at returns the key that was read while the device was in its present state, nil if none
// was.
func (k *endorsements) at(since time.Time) *tpmkeys.EK {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.since.Equal(since) {
		return nil
	}
	return k.known
}

func (k *endorsements) keep(ek *tpmkeys.EK, since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known, k.since = ek, since
}

// readEK reads the endorsement key from the TPM.
func (e *Enroller) readEK(ctx context.Context) (ek *tpmkeys.EK, err error) {
	auths, err := ReadAuths(e.c.TPM)
	if err != nil {
		return nil, err
	}
	named, err := e.namedEK(ctx)
	if err != nil {
		return nil, err
	}
	err = e.do(ctx, func(t transport.TPM) (err error) {
		if named != nil {
			ek, err = readNamedEK(t, named, auths)
			return err
		}
		kind := keys.EKECC256
		for _, k := range []keys.EKKind{keys.EKRSA2048, keys.EKECC256} {
			_, err := tpmkeys.ReadEKCertificate(t, k, auths)
			if err == nil {
				kind = k
				break
			}
			if !errors.Is(err, tpmkeys.ErrNoCertificate) {
				return err
			}
		}
		ek, err = tpmkeys.ReadEK(t, kind, auths)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: read the endorsement key: %w", ErrNoTPM, err)
	}
	return ek, nil
}

// namedEK returns the TPMT_PUBLIC of the endorsement key that the platform's reports name, nil if
// they name none. Of several endorsement keys a verifier has to know that one.
func (e *Enroller) namedEK(ctx context.Context) ([]byte, error) {
	if e.c.Choice == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, choicePatience)
	defer cancel()
	c, err := e.c.Choice(ctx)
	unknown := c.Machine == "" && !errors.Is(err, platform.ErrAbsent)
	if err != nil && (unknown || c.Machine == platform.MachineSVSM) {
		return nil, fmt.Errorf("find out which endorsement key the platform names: %w", err)
	}
	return c.EK, nil
}

// readNamedEK reads the endorsement key with this TPMT_PUBLIC.
func readNamedEK(t transport.TPM, named []byte, auths tpmkeys.Auths) (*tpmkeys.EK, error) {
	for _, k := range []keys.EKKind{keys.EKRSA2048, keys.EKECC256} {
		ek, err := tpmkeys.ReadEK(t, k, auths)
		if err != nil || bytes.Equal(ek.Public.Bytes(), named) {
			return ek, err
		}
	}
	return nil, errors.New("the SVSM's manifest names an endorsement key that is neither of template L-1 nor L-2 of this TPM: it is about another vTPM")
}
