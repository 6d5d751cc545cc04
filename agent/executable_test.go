// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestHashExecutable: the digest is that of the program that runs, whatever else
// happens meanwhile.
func TestHashExecutable(t *testing.T) {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	e, err := hashExecutable()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := e.wait(t.Context()); err != nil || d != sha256.Sum256(b) {
		t.Errorf("%x, %v", d, err)
	}
}

// recorder counts what is recorded.
type recorder struct{ events []pcr.Event }

func (r *recorder) Append(_ context.Context, e pcr.Event) (pcr.Record, error) {
	r.events = append(r.events, e)
	return pcr.Record{}, nil
}

// stuck is an executable that reads until it is told to fail.
type stuck struct{ err chan error }

func (s stuck) Read([]byte) (int, error) { return 0, <-s.err }
func (s stuck) Close() error             { return nil }

// TestAnnounceWaitsForDigest: a start is recorded with the digest of the program or not
// at all.
func TestAnnounceWaitsForDigest(t *testing.T) {
	d, err := newDaemon(Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken := stuck{make(chan error, 1)}
	d.self = hashOpened(broken)
	var r recorder
	announce := d.announce(&r, pcr.EventAgent)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := announce(ctx, nil); !errors.Is(err, context.Canceled) || len(r.events) != 0 {
		t.Errorf("before the digest was there: %v, %d events", err, len(r.events))
	}
	broken.err <- io.ErrUnexpectedEOF
	if err := announce(t.Context(), nil); !errors.Is(err, io.ErrUnexpectedEOF) || len(r.events) != 0 {
		t.Errorf("without a digest: %v, %d events", err, len(r.events))
	}
	d.self = hashOpened(io.NopCloser(bytes.NewReader([]byte("program"))))
	if err := announce(t.Context(), nil); err != nil || len(r.events) != 1 || r.events[0].Agent.Digest != sha256.Sum256([]byte("program")) {
		t.Errorf("%v, %+v", err, r.events)
	}
}

// TestUnreadableExecutable: an agent that cannot tell which program it is ends.
func TestUnreadableExecutable(t *testing.T) {
	dir := t.TempDir()
	c := config.Default()
	c.Sockets = config.Sockets{Client: filepath.Join(dir, "c"), Admin: filepath.Join(dir, "a")}
	c.Report.CertificateFolder = filepath.Join(dir, "certs")
	c.State.Folder = filepath.Join(dir, "state")
	d, err := newDaemon(Options{Config: c, Machine: Machine{
		OpenTPM:      func(context.Context) (*tpm.Device, error) { return nil, io.ErrNoProgress },
		OpenPlatform: func() (Platform, error) { return &fake{}, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	broken := stuck{make(chan error, 1)}
	broken.err <- io.ErrUnexpectedEOF
	d.self = hashOpened(broken)
	if err := d.run(t.Context(), nil); !errors.Is(err, io.ErrUnexpectedEOF) || Refused(err) {
		t.Errorf("got %v, want what reading the executable said", err)
	}
}
