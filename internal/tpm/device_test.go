// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// quick are options with which a test of a hang takes little time, and which a loaded
// machine keeps to all the same.
var quick = tpm.Options{CommandTimeout: 5 * time.Second, ReopenMin: 5 * time.Millisecond, ReopenMax: 20 * time.Millisecond}

func random(t transport.TPM) error {
	_, err := tpm2.GetRandom{BytesRequested: 8}.Execute(t)
	return err
}

// eventually polls until ok, for at most two minutes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func open(t *testing.T, p *swtpm.Proxy, o tpm.Options) *tpm.Device {
	t.Helper()
	d, err := tpm.Open(t.Context(), p.Address(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// case 37: a TPM that hangs delays no caller for longer than its deadline, is said to be
// down, and is taken into use again when it is back.
func TestHang(t *testing.T) {
	p := swtpm.Start(t).Listen()
	d := open(t, p, quick)
	hang := make(chan struct{})
	p.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Hang: hang} })

	err := d.Do(t.Context(), random)
	if !errors.Is(err, tpm.ErrTimedOut) {
		t.Fatalf("got %v, want ErrTimedOut", err)
	}
	s := d.State()
	if s.Ready || s.Hangs != 1 || !strings.Contains(s.Reason, "did not answer") {
		t.Fatalf("state %+v, want not ready after one hang", s)
	}
	// While it is down callers are told at once, whatever their deadline is.
	if err := d.Do(t.Context(), random); !errors.Is(err, tpm.ErrDegraded) {
		t.Fatalf("got %v, want ErrDegraded", err)
	}
	if s := d.State(); s.Hangs != 1 || !strings.Contains(s.Reason, "did not answer") {
		t.Errorf("state %+v: a caller that was refused changed why it is down", s)
	}
	p.Inject(nil)
	close(hang)
	eventually(t, "the device is back", func() bool { return d.State().Ready })
	if err := d.Do(t.Context(), random); err != nil {
		t.Fatal(err)
	}
}

// case 37: every caller that waits for a hung command gets an answer.
func TestHangReleasesAllCallers(t *testing.T) {
	p := swtpm.Start(t).Listen()
	d := open(t, p, quick)
	hang := make(chan struct{})
	defer close(hang)
	p.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Hang: hang} })
	var group sync.WaitGroup
	var timedOut, degraded atomic.Int32
	for range 20 {
		group.Go(func() {
			switch err := d.Do(t.Context(), random); {
			case errors.Is(err, tpm.ErrTimedOut):
				timedOut.Add(1)
			case errors.Is(err, tpm.ErrDegraded):
				degraded.Add(1)
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	group.Wait()
	if timedOut.Load() != 1 || degraded.Load() != 19 {
		t.Errorf("%d timed out and %d were refused, want 1 and 19", timedOut.Load(), degraded.Load())
	}
}

// A caller whose context ends returns at once; the command that it left delays
// the next one and does not disturb it.
func TestContextEndsDuringCommand(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	d := open(t, p, tpm.Options{})
	hang := make(chan struct{})
	p.Inject(func(c []byte) swtpm.Fault {
		if swtpm.CommandCode(c) == tpm2.TPMCCGetRandom {
			return swtpm.Fault{Hang: hang}
		}
		return swtpm.Fault{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		left <- d.Do(ctx, func(t transport.TPM) error {
			// Holds a transient object when it is cut off, and cannot flush it.
			if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(t); err != nil {
				return err
			}
			return random(t)
		})
	}()
	eventually(t, "the command is on its way", func() bool {
		c := p.Commands()
		return c[len(c)-1] == tpm2.TPMCCGetRandom
	})
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	p.Inject(nil)
	close(hang)
	err := d.Do(t.Context(), func(t transport.TPM) error { return random(t) })
	if err != nil {
		t.Fatal(err)
	}
	if n := transients(t, s); n != 0 {
		t.Errorf("%d transient objects are left of the sequence that was cut off, want 0", n)
	}
	if !d.State().Ready {
		t.Errorf("state %+v: a caller that leaves is not a fault of the TPM", d.State())
	}
}

func transients(t *testing.T, s transport.TPM) int {
	t.Helper()
	return len(swtpm.Handles(t, s, tpm2.TPMHTTransient))
}

// One sequence at a time: no command of another comes between.
func TestSequencesDoNotMix(t *testing.T) {
	d := swtpm.Start(t).Device(tpm.Options{})
	var running atomic.Int32
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			err := d.Do(t.Context(), func(c transport.TPM) error {
				if running.Add(1) != 1 {
					t.Error("two sequences at once")
				}
				defer running.Add(-1)
				if err := random(c); err != nil {
					return err
				}
				return random(c)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestDoEnds(t *testing.T) {
	d := swtpm.Start(t).Device(tpm.Options{})
	t.Run("context over before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Do(ctx, random); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("context over while waiting", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := d.Do(t.Context(), func(transport.TPM) error {
			waiting := make(chan error)
			go func() { waiting <- d.Do(ctx, random) }()
			cancel()
			return <-waiting
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("transport kept", func(t *testing.T) {
		var kept transport.TPM
		d.Do(t.Context(), func(c transport.TPM) error { kept = c; return nil })
		if err := random(kept); err == nil {
			t.Error("a transport works after its turn")
		}
	})
	t.Run("panic", func(t *testing.T) {
		func() {
			defer func() { recover() }()
			d.Do(t.Context(), func(transport.TPM) error { panic("in f") })
		}()
		if err := d.Do(t.Context(), random); err != nil {
			t.Errorf("the turn is lost: %v", err)
		}
	})
	t.Run("not a command", func(t *testing.T) {
		for _, c := range [][]byte{nil, make([]byte, 9), make([]byte, 10), make([]byte, 5000)} {
			err := d.Do(t.Context(), func(tr transport.TPM) error { _, err := tr.Send(c); return err })
			if err == nil {
				t.Errorf("a command of %d bytes was sent", len(c))
			}
		}
		if err := d.Do(t.Context(), random); err != nil {
			t.Error(err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		d.Close()
		if err := d.Do(t.Context(), random); !errors.Is(err, tpm.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if err := d.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
	})
}

// case 35, the part of the device: a TPM that is reset while the connection stays
// goes on working; the keys notice by their counters.
func TestResetWhileRunning(t *testing.T) {
	s := swtpm.Start(t)
	d := s.Device(quick)
	s.Reboot()
	if err := d.Do(t.Context(), random); err != nil {
		t.Fatal(err)
	}
	s.PowerCut()
	if err := d.Do(t.Context(), random); err != nil {
		t.Fatal(err)
	}
}

var _ io.Closer = (*tpm.Device)(nil)
