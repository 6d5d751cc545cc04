package tpm_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
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
var quick = tpm.Options{CommandTimeout: time.Second, ReopenMin: 5 * time.Millisecond, ReopenMax: 20 * time.Millisecond}

func random(t transport.TPM) error {
	_, err := tpm2.GetRandom{BytesRequested: 8}.Execute(t)
	return err
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
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

// case 37: a TPM that hangs holds nobody for longer than its deadline, is said to be
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

// case 37: everybody who waits behind a hung command gets an answer.
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

// A caller whose context ends is let go at once; the command it left behind delays
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
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 100}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	h, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		t.Fatal(err)
	}
	return len(h.Handle)
}

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

// Answers that are not one response are errors, and the connection is not used on:
// nobody could tell which command the next answer belongs to.
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

// case 36: whoever is killed leaves transient objects and sessions in a TPM without a
// resource manager. The next one works, ten times over.
func TestKilledTenTimes(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	for round := range 10 {
		d := open(t, p, tpm.Options{})
		err := d.Do(t.Context(), func(c transport.TPM) error {
			for range 3 { // as many as there are slots
				_, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
				if err != nil {
					return err
				}
			}
			for range 3 {
				if _, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, 16); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if n := transients(t, s); n != 3 {
			t.Fatalf("round %d: %d transient objects, want all three slots taken", round, n)
		}
		p.Disconnect() // no goodbye
	}
}

// A sweep for room leaves the sessions of the running sequence alone.
func TestSweepKeepsOwnSessions(t *testing.T) {
	p := swtpm.Start(t).Listen()
	killed := open(t, p, tpm.Options{})
	err := killed.Do(t.Context(), func(c transport.TPM) error {
		for range 2 {
			if _, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, 16); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Disconnect()
	d := open(t, p, tpm.Options{})
	err = d.Do(t.Context(), func(c transport.TPM) error {
		var sessions []tpm2.Session
		for range 3 { // the second one finds the slots full
			s, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, 16)
			if err != nil {
				return err
			}
			sessions = append(sessions, s)
		}
		for _, s := range sessions { // all of them still work
			_, err := tpm2.CreatePrimary{
				PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: s},
				InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
			}.Execute(c)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
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
	t.Run("commands that are none", func(t *testing.T) {
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

// Close does not wait for a TPM that hangs.
func TestCloseDuringHang(t *testing.T) {
	p := swtpm.Start(t).Listen()
	d := open(t, p, tpm.Options{}) // a deadline of 30 s
	hang := make(chan struct{})
	defer close(hang)
	p.Inject(func([]byte) swtpm.Fault { return swtpm.Fault{Hang: hang} })
	left := make(chan error)
	before := len(p.Commands())
	go func() { left <- d.Do(t.Context(), random) }()
	eventually(t, "the command is on its way", func() bool { return len(p.Commands()) > before })
	d.Close()
	if err := <-left; !errors.Is(err, tpm.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestOpen(t *testing.T) {
	for address, want := range map[string]string{
		"":              "want /dev/tpmrm0, unix:/path or fd:N",
		"tpm0":          "want /dev/tpmrm0, unix:/path or fd:N",
		"unix:relative": "must be absolute",
		"fd:0":          "at least 3",
		"fd:x":          "at least 3",
		"fd:-1":         "at least 3",
		"fd:987654":     "was it inherited",
		"/dev/tpm-none": "is there a TPM",
		"/dev/null/x":   "not a directory",
	} {
		if _, err := tpm.Open(t.Context(), address, quick); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to say %q", address, err, want)
		}
	}
	t.Run("regular file", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "tpm")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tpm.Open(t.Context(), name, quick); err == nil || !strings.Contains(err.Error(), "not a character device") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("device that is no TPM", func(t *testing.T) {
		if _, err := tpm.Open(t.Context(), "/dev/null", quick); !errors.Is(err, tpm.ErrFraming) {
			t.Errorf("got %v, want ErrFraming", err)
		}
		if _, err := tpm.Open(t.Context(), "/dev/zero", quick); !errors.Is(err, tpm.ErrFraming) {
			t.Errorf("got %v, want ErrFraming", err)
		}
	})
	t.Run("inherited descriptor", func(t *testing.T) {
		s := swtpm.Start(t)
		f, err := s.Process().Conn.(*net.UnixConn).File()
		if err != nil {
			t.Fatal(err)
		}
		n := f.Fd()
		dup, err := dup(n)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		d, err := tpm.Open(t.Context(), "fd:"+dup, quick)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Do(t.Context(), random); err != nil {
			t.Fatal(err)
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
