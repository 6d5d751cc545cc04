// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// ReplaceAK makes a new attestation key in the place of a stored one that this TPM does not
// load, because the TPM was cleared or replaced, or the file is damaged. The old file is
// kept under another name before anything changes, so that an interruption leaves the old
// key stored or the new one. While the stored key loads, nothing is done: an attacker who
// controls a socket for a moment must not make a machine strange to its verifiers.
func (e *Enroller) ReplaceAK(ctx context.Context) (api.Replaced, error) {
	if err := e.c.Supervisor.Wait(ctx); err != nil {
		return api.Replaced{}, err
	}
	var out api.Replaced
	round, err := e.c.Supervisor.Exclusive(ctx, func() (err error) {
		out, err = e.replace(ctx)
		return err
	})
	if err != nil {
		return api.Replaced{}, err
	}
	e.c.Log.Warn("the attestation key was replaced: verifiers have to enrol the new one",
		"old", out.Old, "new", out.New, "backup", out.Backup, "reason", out.Reason)
	// The parts that need a key come up now. The key is replaced even if they do not.
	e.c.Supervisor.Hurry()
	select {
	case <-round:
	case <-ctx.Done():
	}
	return out, nil
}

// replace replaces the key while no attempt to bring the parts up runs.
func (e *Enroller) replace(ctx context.Context) (out api.Replaced, err error) {
	if ak, up := e.key.Now(); up {
		return out, e.stillLoads(ctx, ak)
	}
	if kind, err := e.which(ctx); err != nil || !kind.Own() {
		if err == nil {
			err = nothingToReplace(fmt.Sprintf("the attestation key is that of the platform (tpm.ak, %q): the agent stores none", kind))
		}
		return out, err
	}
	state, up := e.c.State.Now()
	if _, device := e.c.Device.Now(); !up || !device {
		return out, e.c.Supervisor.Missing()
	}
	stored, ak, err := e.stored(ctx)
	if err != nil && !errors.Is(err, ErrUnusable) {
		return out, err
	}
	if err == nil {
		// An earlier replacement may have succeeded although it returned an error.
		if ak != nil {
			e.key.Set(ak)
		}
		e.c.Supervisor.Hurry()
		return out, nothingToReplace("the stored attestation key loads, or there is none yet: the agent is about to use it")
	}
	out.Reason = err.Error()
	if blob, err := tpmkeys.ParseBlob(stored); err == nil {
		out.Old = evidence.Bytes(blob.Name())
	}
	if out.Backup, err = keep(state, stored); err != nil {
		return out, err
	}
	if ak, err = e.make(ctx); err != nil {
		return out, err
	}
	out.New = evidence.Bytes(ak.Name())
	e.key.Set(ak)
	return out, nil
}

// stillLoads returns why the key that is in use is not replaced.
func (e *Enroller) stillLoads(ctx context.Context, ak *tpmkeys.AK) error {
	err := e.do(ctx, func(t transport.TPM) error {
		_, err := ak.Boot(t)
		return err
	})
	switch err := e.Note(err); {
	case errors.Is(err, ErrUnusable):
		return err
	case err != nil:
		return fmt.Errorf("%w: try the attestation key: %w", ErrNoTPM, err)
	}
	return nothingToReplace(fmt.Sprintf("the attestation key %s is in order", ak.Name()))
}

func nothingToReplace(detail string) error { return problem.New(api.CodeNothingToDo, detail) }

// keep writes what is stored under the first name that is free, or leaves it under the name
// that an earlier attempt gave it. It returns the name.
func keep(dir *durable.Dir, stored []byte) (string, error) {
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
