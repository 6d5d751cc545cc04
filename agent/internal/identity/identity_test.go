// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/cvm-agentd/agentd/pcr"
)

// recorder keeps what is recorded.
type recorder struct{ events []pcr.Event }

func (r *recorder) Append(_ context.Context, e pcr.Event) (pcr.Record, error) {
	r.events = append(r.events, e)
	return pcr.Record{}, nil
}

// TestAnnounce: a start is recorded with the digest of the program that runs, with the
// digest of the configuration, and with a key that no other start has.
func TestAnnounce(t *testing.T) {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	a, err := New("1", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	var r recorder
	if err := a.Announce(&r, pcr.EventAgent)(t.Context(), []pcr.Declaration{{App: "x"}}); err != nil || len(r.events) != 1 {
		t.Fatalf("%v, %d events", err, len(r.events))
	}
	e := r.events[0]
	if e.Type != pcr.EventAgent || e.Agent.Version != "1" || e.Agent.Digest != sha256.Sum256(b) ||
		e.Agent.Configuration != sha256.Sum256([]byte("text")) || len(e.Agent.Declarations) != 1 || !bytes.Equal(e.Agent.AgentKey, a.Public()) {
		t.Errorf("%+v", e.Agent)
	}
	if other, err := New("1", nil); err != nil || bytes.Equal(other.Public(), a.Public()) {
		t.Errorf("a second start has the same key (%v)", err)
	}
}

// TestUnreadableExecutable: no digest comes from an executable that does not read to its end.
func TestUnreadableExecutable(t *testing.T) {
	d, err := hash(io.MultiReader(bytes.NewReader([]byte("program")), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !d.IsZero() {
		t.Errorf("%v, %v", d, err)
	}
}
