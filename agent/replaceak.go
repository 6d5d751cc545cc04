// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// ReplaceAK makes a new attestation key in the place of a stored one that this TPM does
// not load, because it was cleared, is another one, or the file is damaged. The old
// file is kept under another name before anything changes, so that whatever breaks off
// in between leaves the old key stored or the new one. While the stored key loads,
// nothing is done: whoever has control of a socket for a moment must not make a machine
// strange to its verifiers.
func (d *Daemon) ReplaceAK(ctx context.Context) (api.Replaced, error) {
	if _, err := d.ready(ctx); errors.Is(err, ctx.Err()) && err != nil {
		return api.Replaced{}, err
	}
	out, round, err := d.replaceAK(ctx)
	if err != nil {
		return api.Replaced{}, err
	}
	d.log.Warn("the attestation key was replaced: verifiers have to enrol the new one",
		"old", out.Old, "new", out.New, "backup", out.Backup, "reason", out.Reason)
	// What waited for a key comes up now. It is done already, whatever comes of that.
	d.hurry()
	select {
	case <-round:
	case <-ctx.Done():
	}
	return out, nil
}

// hurry ends the pause before the next attempt to bring the parts up.
func (d *Daemon) hurry() {
	select {
	case d.again <- struct{}{}:
	default:
	}
}

// replaceAK does it while no attempt to bring the parts up is under way. The channel is
// closed when the next one is over.
func (d *Daemon) replaceAK(ctx context.Context) (out api.Replaced, round <-chan struct{}, err error) {
	d.attempts.Lock()
	defer d.attempts.Unlock()
	p := d.up()
	switch {
	case p.ak != nil:
		return out, nil, d.stillLoads(ctx, p)
	case p.state == nil || p.device == nil:
		d.mu.Lock()
		defer d.mu.Unlock()
		return out, nil, missing(d.trial)
	}
	stored, ak, err := d.storedAK(ctx, p)
	if err != nil && !errors.Is(err, errAK) {
		return out, nil, err
	}
	if err == nil {
		// An earlier replacement may have been done although it was told to have failed.
		if ak != nil {
			err = d.useAK(p, ak)
		}
		d.hurry()
		return out, nil, errors.Join(err, nothingToReplace("the stored attestation key loads, or there is none yet: the agent is about to use it"))
	}
	out.Reason = err.Error()
	if blob, err := tpmkeys.ParseBlob(stored); err == nil {
		out.Old = evidence.Bytes(blob.Name())
	}
	if out.Backup, err = keepAK(p.state, stored); err != nil {
		return out, nil, err
	}
	if ak, err = d.newAK(ctx, p); err != nil {
		return out, nil, err
	}
	out.New = evidence.Bytes(ak.Name())
	if err := d.useAK(p, ak); err != nil {
		return out, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return out, d.round, nil
}

// stillLoads is why the key that is in use is not replaced.
func (d *Daemon) stillLoads(ctx context.Context, p parts) error {
	err := p.device.Do(ctx, func(t transport.TPM) error {
		_, err := p.ak.Boot(t)
		return err
	})
	switch err := d.noteAK(err); {
	case errors.Is(err, errAK):
		return err
	case err != nil:
		return fmt.Errorf("%w: try the attestation key: %w", errNoTPM, err)
	}
	return nothingToReplace(fmt.Sprintf("the attestation key %s is in order", p.ak.Name()))
}

func nothingToReplace(detail string) error { return api.NewProblem(api.CodeNothingToDo, detail) }

// keepAK writes what is stored under the first name that is free, or leaves it under
// one that an earlier attempt gave it. It returns the name.
func keepAK(dir *durable.Dir, stored []byte) (string, error) {
	names, err := dir.Names()
	if err != nil {
		return "", fmt.Errorf("keep the old attestation key: %w", err)
	}
	for n := 1; ; n++ {
		name := fmt.Sprintf("ak-replaced-%d.json", n)
		if !slices.Contains(names, name) {
			if err := dir.Replace(name, stored); err != nil {
				return "", fmt.Errorf("keep the old attestation key: %w", err)
			}
			return name, nil
		}
		if b, err := dir.Read(name, maxAK); err == nil && bytes.Equal(b, stored) {
			return name, nil
		}
	}
}
