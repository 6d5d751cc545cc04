// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// case 37: what the TPM puts off is asked again, up to the deadline of the command.
func TestPutOff(t *testing.T) {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCTesting, tpm2.TPMRCYielded, tpm2.TPMRCNVRate} {
		t.Run(rc.Error(), func(t *testing.T) { t.Parallel(); testPutOff(t, rc) })
	}
}

func testPutOff(t *testing.T, rc tpm2.TPMRC) {
	p := swtpm.Start(t).Listen()
	d := open(t, p, quick)
	left := 4
	p.Inject(func([]byte) swtpm.Fault {
		if left--; left >= 0 {
			return swtpm.Fault{Code: rc}
		}
		return swtpm.Fault{}
	})
	before := len(p.Commands())
	if err := d.Do(t.Context(), random); err != nil {
		t.Errorf("%v four times: %v", rc, err)
	}
	if n := len(p.Commands()) - before; n != 5 {
		t.Errorf("%v four times: %d commands were sent, want 5", rc, n)
	}
	p.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Code: rc} })
	err := d.Do(t.Context(), random)
	if !errors.Is(err, tpm.ErrTimedOut) || !errors.Is(err, rc) {
		t.Errorf("%v for ever: got %v, want ErrTimedOut and the code", rc, err)
	}
	p.Inject(nil)
	// It answers, so it is not down.
	if err := d.Do(t.Context(), random); err != nil {
		t.Errorf("after %v: %v", rc, err)
	}
}

// What happens to commands is counted: each attempt once, and by its outcome.
func TestCounts(t *testing.T) {
	p := swtpm.Start(t).Listen()
	d := open(t, p, tpm.Options{CommandTimeout: 500 * time.Millisecond, ReopenMin: time.Minute})
	before := d.Counts()
	do := func(ctx context.Context, want error, faults ...swtpm.Fault) {
		t.Helper()
		p.Inject(func([]byte) swtpm.Fault {
			if len(faults) == 0 {
				return swtpm.Fault{}
			}
			f := faults[0]
			faults = faults[1:]
			return f
		})
		if err := d.Do(ctx, random); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	do(t.Context(), nil)
	do(t.Context(), nil, swtpm.Fault{Code: tpm2.TPMRCRetry}, swtpm.Fault{Code: tpm2.TPMRCTesting})
	do(t.Context(), tpm2.TPMRCFailure, swtpm.Fault{Code: tpm2.TPMRCFailure})
	hang := make(chan struct{})
	defer close(hang)
	do(t.Context(), tpm.ErrTimedOut, swtpm.Fault{Hang: hang})
	after := d.Counts()
	got := tpm.Counts{Commands: after.Commands - before.Commands, PutOff: after.PutOff, Refused: after.Refused, Failed: after.Failed}
	if want := (tpm.Counts{Commands: 6, PutOff: 2, Refused: 1, Failed: 1}); got != want || before.Commands == 0 || before.Failed != 0 {
		t.Errorf("counted %+v after %+v, want %+v", got, before, want)
	}
}

// case 37
func TestLockout(t *testing.T) {
	p := swtpm.Start(t).Listen()
	d := open(t, p, quick)
	p.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Code: tpm2.TPMRCLockout} })
	err := d.Do(t.Context(), random)
	if !errors.Is(err, tpm.ErrLockout) || !errors.Is(err, tpm2.TPMRCLockout) {
		t.Errorf("got %v, want ErrLockout", err)
	}
}

// Answers that are not one response are errors, and the connection is not used
// again: the next answer could belong to any command.
func TestFraming(t *testing.T) {
	size := func(n uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[2:], n)
			return b
		}
	}
	for name, f := range map[string]swtpm.Fault{
		"header cut":     {Rewrite: func(b []byte) []byte { return b[:6] }, Cut: true},
		"body cut":       {Rewrite: func(b []byte) []byte { return b[:len(b)-1] }, Cut: true},
		"nothing":        {Rewrite: func([]byte) []byte { return nil }, Cut: true},
		"length 9":       {Rewrite: size(9)},
		"length 4097":    {Rewrite: size(4097)},
		"length 4 GiB":   {Rewrite: size(0xffffffff)},
		"length too low": {Rewrite: size(12)},
		"tag":            {Rewrite: func(b []byte) []byte { b[0] = 0; return b }},
		"two answers":    {Rewrite: func(b []byte) []byte { return append(b, b...) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := swtpm.Start(t).Listen()
			d := open(t, p, quick)
			p.Inject(func([]byte) swtpm.Fault { return f })
			err := d.Do(t.Context(), random)
			if !errors.Is(err, tpm.ErrFraming) {
				t.Fatalf("got %v, want ErrFraming", err)
			}
			p.Inject(nil)
			eventually(t, "the device is back", func() bool { return d.Do(t.Context(), random) == nil })
		})
	}
	t.Run("length too high", func(t *testing.T) {
		p := swtpm.Start(t).Listen()
		d := open(t, p, quick)
		p.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Rewrite: size(2000)} })
		if err := d.Do(t.Context(), random); !errors.Is(err, tpm.ErrTimedOut) {
			t.Fatalf("got %v, want ErrTimedOut", err)
		}
	})
}

// A response that arrives in pieces is one response.
func TestPieces(t *testing.T) {
	s := swtpm.Start(t)
	ours, theirs := net.Pipe() // each write is read before it returns
	go func() {
		defer theirs.Close()
		for {
			command := make([]byte, 4096)
			n, err := theirs.Read(command)
			if err != nil {
				return
			}
			rsp, err := s.Send(command[:n])
			if err != nil {
				return
			}
			for i := range rsp {
				if _, err := theirs.Write(rsp[i : i+1]); err != nil {
					return
				}
			}
		}
	}()
	d := tpm.New(ours, quick)
	defer d.Close()
	for range 3 {
		if err := d.Do(t.Context(), random); err != nil {
			t.Fatal(err)
		}
	}
}

// A connection that cannot be opened again is used on when the answer comes late, and
// is lost when it breaks.
func TestNew(t *testing.T) {
	s := swtpm.Start(t)
	var hold atomic.Pointer[chan struct{}]
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		command := make([]byte, 4096)
		for {
			n, err := theirs.Read(command)
			if err != nil {
				return
			}
			rsp, err := s.Send(command[:n])
			if err != nil {
				return
			}
			if c := hold.Load(); c != nil {
				<-*c
			}
			theirs.Write(rsp)
		}
	}()
	d := tpm.New(ours, quick)
	defer d.Close()
	if err := d.Do(t.Context(), random); err != nil {
		t.Fatal(err)
	}
	c := make(chan struct{})
	hold.Store(&c)
	if err := d.Do(t.Context(), random); !errors.Is(err, tpm.ErrTimedOut) {
		t.Fatalf("got %v, want ErrTimedOut", err)
	}
	close(c)
	eventually(t, "the late answer brings it back", func() bool { return d.State().Ready })
	if err := d.Do(t.Context(), random); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if err := d.Do(t.Context(), random); err == nil {
		t.Fatal("a broken connection works")
	}
	eventually(t, "it is said to be lost", func() bool { return strings.Contains(d.State().Reason, "cannot be opened again") })
}
