// SPDX-License-Identifier: Apache-2.0

// Package identity says which agent runs: its version, its executable, its configuration
// and its key, as the measurement log records them at each start and reload.
package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// An Agent is the program that runs. It does not change.
type Agent struct {
	Version       string
	Digest        evidence.Digest // SHA-256 of the executable
	Configuration evidence.Digest // SHA-256 of the configuration in force
	Key           ed25519.PrivateKey
}

// New returns the identity of this process, with a key that is made now, in memory, and
// never stored.
func New(version string, configuration []byte) (*Agent, error) {
	a := &Agent{Version: version, Configuration: sha256.Sum256(configuration)}
	f, err := os.Open("/proc/self/exe")
	if err == nil {
		defer f.Close()
		a.Digest, err = hash(f)
	}
	if err != nil {
		return nil, fmt.Errorf("hash the agent's own executable: %w", err)
	}
	if _, a.Key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make the agent key: %w", err)
	}
	return a, nil
}

func hash(r io.Reader) (d evidence.Digest, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return d, err
	}
	return evidence.Digest(h.Sum(nil)), nil
}

// Public returns the public half of the agent key.
func (a *Agent) Public() evidence.Bytes { return evidence.Bytes(a.Key.Public().(ed25519.PublicKey)) }

// A Recorder appends events to the measurement log. When Append returns without an error, the
// event is in the log and in the PCR.
type Recorder interface {
	Append(ctx context.Context, e pcr.Event) (pcr.Record, error)
}

// Leave records that the agent stops in order. Its key is over with that.
func (a *Agent) Leave(ctx context.Context, to Recorder) error {
	_, err := to.Append(ctx, pcr.Event{Type: pcr.EventStop, Stop: &pcr.StopEvent{AgentKey: a.Public()}})
	return err
}

// Announce returns a function that records, as an event of type t, that the agent started
// or read its declarations again.
func (a *Agent) Announce(to Recorder, t pcr.EventType) func(context.Context, []pcr.Declaration) error {
	return func(ctx context.Context, declarations []pcr.Declaration) error {
		_, err := to.Append(ctx, pcr.Event{Type: t, Agent: &pcr.AgentEvent{
			Version:       a.Version,
			Digest:        a.Digest,
			Configuration: a.Configuration,
			Declarations:  declarations,
			AgentKey:      a.Public(),
		}})
		return err
	}
}
