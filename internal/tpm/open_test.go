// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// case 36: a program that is killed leaves transient objects and sessions in a TPM without a
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
	s := swtpm.Start(t)
	d := open(t, s.Listen(), tpm.Options{})
	leaveSessions(t, s, 2) // after the start, which flushes what it finds
	err := d.Do(t.Context(), func(c transport.TPM) error {
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

// leaveSessions starts n sessions, as a program that is killed before it ends them.
func leaveSessions(t *testing.T, s *swtpm.TPM, n int) (handles []tpm2.TPMHandle) {
	t.Helper()
	for range n {
		session, _, err := tpm2.HMACSession(s, tpm2.TPMAlgSHA256, 16)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, session.Handle())
	}
	return handles
}

// case 36: without a resource manager the start frees the sessions of a killed agent, before
// anything needs their room. Sessions that another program saved stay: it goes on with them.
func TestStartFreesSessions(t *testing.T) {
	s := swtpm.Start(t)
	saved, err := tpm2.ContextSave{SaveHandle: leaveSessions(t, s, 1)[0]}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	left := leaveSessions(t, s, 2)
	p := s.Listen()
	open(t, p, tpm.Options{})
	for _, h := range left {
		if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(s); !errors.Is(err, tpm2.TPMRCHandle) {
			t.Errorf("session 0x%08x is still there: %v", uint32(h), err)
		}
	}
	if _, err := (tpm2.ContextLoad{Context: saved.Context}).Execute(s); err != nil {
		t.Errorf("the saved session of another program is gone: %v", err)
	}

	// What an interrupted sequence leaves goes before the next one.
	d := open(t, p, tpm.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Do(ctx, func(c transport.TPM) error {
		left = leaveSessions(t, s, 1)
		cancel()
		return random(c)
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := d.Do(t.Context(), random); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: left[0]}).Execute(s); err == nil {
		t.Error("the session of an interrupted sequence stayed")
	}
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
	t.Run("device that is not a TPM", func(t *testing.T) {
		if _, err := tpm.Open(t.Context(), "/dev/null", quick); !errors.Is(err, tpm.ErrFraming) {
			t.Errorf("got %v, want ErrFraming", err)
		}
		if _, err := tpm.Open(t.Context(), "/dev/zero", quick); !errors.Is(err, tpm.ErrFraming) {
			t.Errorf("got %v, want ErrFraming", err)
		}
	})
	t.Run("inherited descriptor", func(t *testing.T) {
		s := swtpm.Start(t)
		f, err := s.Process().UnixConn.File()
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
