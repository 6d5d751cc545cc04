// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/cvm-agentd/agentd/evidence"
)

// executable is the digest of the program that this process runs. It is taken beside
// everything else that a start does: on processors without instructions for SHA-256 it
// takes longer than all the rest together. Nothing is recorded before it is there.
type executable struct {
	done   chan struct{}   // closed when the two below are final
	digest evidence.Digest // SHA-256
	err    error
}

// hashExecutable begins to hash the program that this process runs, by a descriptor
// that is open when it returns: what a package manager puts at its path from then on
// is another program.
func hashExecutable() (*executable, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("hash the agent's own executable: %w", err)
	}
	return hashOpened(f), nil
}

func hashOpened(f io.ReadCloser) *executable {
	e := &executable{done: make(chan struct{})}
	go func() {
		defer close(e.done)
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			e.err = fmt.Errorf("hash the agent's own executable: %w", err)
			return
		}
		e.digest = evidence.Digest(h.Sum(nil))
	}()
	return e
}

// wait returns the digest as soon as it is there.
func (e *executable) wait(ctx context.Context) (evidence.Digest, error) {
	select {
	case <-e.done:
		return e.digest, e.err
	case <-ctx.Done():
		return evidence.Digest{}, fmt.Errorf("wait for the digest of the agent's own executable: %w", ctx.Err())
	}
}
