// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// TestEveryFailureHasACode: each call to the files fails with each errno, at the start of the
// store and in each operation. The error has a code, or says which kind of failure of the disk
// it is, from which the server makes one.
func TestEveryFailureHasACode(t *testing.T) {
	failed := 0
	for _, op := range operations(t) {
		base := newWorld()
		op.prepare(t, base)
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.EMFILE} {
			for at := 0; ; at++ {
				w, n, broken := base.clone(), 0, ""
				w.files.calls = func(call string) error {
					if n++; n-1 != at {
						return nil
					}
					broken = call
					return &durable.FailedError{Attempt: call, Err: errno}
				}
				for _, err := range w.work(t, op) {
					if failed++; !coded(err) {
						t.Errorf("%s: %s with %v: no code for %v", op.name, broken, errno, err)
					}
				}
				if broken == "" {
					break
				}
			}
		}
	}
	if failed < 100 {
		t.Errorf("only %d failures", failed)
	}
}

// errKept is what an operation of the tests makes of blobs that were not written, each of which
// has a code.
var errKept = errors.New("kept")

// coded reports whether an answer can be made of err.
func coded(err error) bool {
	code := sealing.CodeOf(err)
	return errors.Is(err, errKept) || errors.Is(err, durable.ErrFailed) || code != "" && code.Info().Title != "" && code != api.CodeInternal
}

// work opens the store, does an operation, and returns the errors that callers see.
func (w *world) work(t *testing.T, op operation) (out []error) {
	s, err := store.Open(context.Background(), store.Config{
		Files: w.files, Platform: w.machine, TPM: w.tpm, LoseOnHardwareChange: true, RetryPause: w.config.RetryPause,
	})
	if err != nil {
		return []error{err}
	}
	defer s.Close()
	if st, err := s.State(t.Context()); err != nil || st.Err != nil {
		out = append(out, errors.Join(err, st.Err))
	}
	if err := op.do(t.Context(), s); err != nil {
		out = append(out, err)
	}
	return out
}
