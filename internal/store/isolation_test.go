// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
)

// slowFiles are files whose writes stop until they are let go, and say that they began.
type slowFiles struct {
	*memoryFiles
	began, let chan struct{}
}

func (f slowFiles) WriteDurable(name string, b []byte) error {
	f.began <- struct{}{}
	<-f.let
	return f.memoryFiles.WriteDurable(name, b)
}

// stalled is a store in the middle of a write of one app, and how to end that.
func stalled(t *testing.T, ctx context.Context) (s *store.Store, sealed chan error, end func()) {
	t.Helper()
	w := newWorld()
	first := w.ready(t)
	for _, c := range []store.Caller{billing, ledger} {
		if _, err := deriveText(first, c, "disk", 0); err != nil {
			t.Fatal(err)
		}
	}
	first.Close()
	slow := slowFiles{w.files, make(chan struct{}, 100), make(chan struct{})}
	c := w.config
	c.Files, c.Platform, c.TPM = slow, w.machine, w.tpm
	s, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, c := range []store.Caller{billing, ledger} { // opens the roots
		if _, err := deriveText(s, c, "disk", 0); err != nil {
			t.Fatal(err)
		}
	}
	sealed = make(chan error, 1)
	go func() {
		data, err := secret.Take([]byte("hunter2"))
		if err == nil {
			err = s.Seal(ctx, ledger, "token", data, []byte("ad"))
		}
		sealed <- err
	}()
	<-slow.began
	return s, sealed, func() { close(slow.let) }
}

// A secret is derived from memory while another app's write waits for the disk.
func TestDeriveWaitsForNoWrite(t *testing.T) {
	s, sealed, end := stalled(t, t.Context())
	want, err := deriveText(s, billing, "disk", 0)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-sealed:
		t.Fatalf("the write ended: %v", err)
	default:
	}
	end()
	if err := <-sealed; err != nil {
		t.Fatal(err)
	}
	if got, err := deriveText(s, billing, "disk", 0); err != nil || got != want {
		t.Errorf("derived something else after the write, %v", err)
	}
}

// Case 105: callers who leave while the store works, or while they wait for it, change
// nothing for those who stay.
func TestCallersWhoLeave(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	s, sealed, end := stalled(t, ctx)
	leave() // in the middle of the write
	waiting := make(chan error, 20)
	gone, goAll := context.WithCancel(t.Context())
	for n := range cap(waiting) {
		go func() {
			data, err := secret.Take([]byte("x"))
			if err == nil {
				err = s.Seal(gone, billing, fmt.Sprint("token", n), data, nil)
			}
			waiting <- err
		}()
	}
	goAll()
	end()
	if err := <-sealed; err != nil {
		t.Errorf("what was begun is not brought to its end: %v", err)
	}
	for range cap(waiting) {
		if err := <-waiting; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("one who left: %v", err)
		}
	}
	if st := state(t, s); !st.Ready {
		t.Errorf("the store is locked: %v", st.Err)
	}
	if got, err := unsealText(s, ledger, "token"); err != nil || got != "hunter2" {
		t.Errorf("unsealed %q, %v", got, err)
	}
}

// slowTPM stops at each secret that it opens.
type slowTPM struct {
	*memoryTPM
	began, let chan struct{}
}

func (m slowTPM) Unseal(ctx context.Context, record []byte) (*secret.Secret, error) {
	m.began <- struct{}{}
	select {
	case <-m.let:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return m.memoryTPM.Unseal(ctx, record)
}

// Case 105: reading the store again, which all wait for, does not end with the caller who
// came first.
func TestLoadOutlivesItsCaller(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	sealText(t, s, billing, "token", "hunter2")
	s.Close()
	slow := slowTPM{w.tpm, make(chan struct{}, 100), make(chan struct{})}
	c := w.config
	c.Files, c.Platform, c.TPM = w.files, w.machine, slow
	busy, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := store.Open(busy, c) // the TPM does not answer in time
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-slow.began
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, _, err := s.Derive(ctx, billing, []byte("disk"), 32, 0)
		first <- err
	}()
	<-slow.began
	leave()
	close(slow.let)
	<-first
	if got, err := unsealText(s, billing, "token"); err != nil || got != "hunter2" {
		t.Errorf("unsealed %q, %v", got, err)
	}
}

// After a write that failed, and may have taken effect, nothing is derived from what was in
// memory: what the disk says counts.
func TestDeriveAfterFailedWrite(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			w := newWorld()
			s := w.ready(t)
			if _, err := deriveText(s, billing, "disk", 0); err != nil {
				t.Fatal(err)
			}
			f := &fault{at: at, after: after, once: true}
			w.setFault(f)
			_, rotated := s.Rotate(t.Context(), "billing")
			got, err := deriveText(s, billing, "disk", 0)
			if err != nil {
				t.Fatalf("fault %d, after %t: %v", at, after, err)
			}
			w.setFault(&fault{at: -1})
			if want, err := deriveText(w.ready(t), billing, "disk", 0); err != nil || got != want {
				t.Errorf("fault %d (%s), after %t: derived from a root that the disk does not have, %v", at, f.names[min(at, len(f.names)-1)], after, err)
			}
			if rotated == nil && f.n <= at {
				break // no call is left that can fail
			}
		}
	}
}
