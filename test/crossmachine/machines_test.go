// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// patience is how long all machines may take. Tests share their processors.
const patience = 5 * time.Minute

// What the verifier sent, and what another verifier sent at another time.
var (
	nonce = digest("the verifier's nonce")
	other = digest("another nonce")
)

func digest(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// guest is one machine, and what it was asked for, in this order.
type guest struct {
	*simulated.Machine
	stale     []byte // fresh evidence over another nonce
	fresh     []byte // over the verifier's
	anchored  []byte // likewise, on the report of fresh; an application was measured in between
	neighbour []byte // of another caller, in one batch with mine
	mine      []byte
}

// shared are the machines of all tests. A and B are of one product, C of another.
var shared struct {
	commands string
	roots    string // file with the roots of both products
	a, b, c  *guest
	at       time.Time // after all of it
}

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (stop func() error, err error) {
		shared.commands = commands
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return startAll(ctx, dir)
	}))
}

// startAll starts the machines, asks each for its evidence, and returns what stops them.
func startAll(ctx context.Context, dir string) (stop func() error, err error) {
	var running []*guest
	stop = func() error {
		var errs []error
		for _, g := range running {
			errs = append(errs, g.Stop())
		}
		return errors.Join(errs...)
	}
	// The first machine makes the keys of the root, which the others are given without
	// its chip: as with real machines, all lead to one root.
	authority := filepath.Join(dir, "authority")
	var roots []byte
	for _, x := range []struct {
		name, product string
		to            **guest
	}{{"a", "genoa", &shared.a}, {"b", "genoa", &shared.b}, {"c", "milan", &shared.c}} {
		from := ""
		if len(running) > 0 {
			from = authority
		}
		m, err := simulated.Start(shared.commands, filepath.Join(dir, x.name), from, "--product", x.product)
		if err != nil {
			return stop, err
		}
		g := &guest{Machine: m}
		*x.to, running = g, append(running, g)
		if len(running) == 1 {
			if err := os.CopyFS(authority, os.DirFS(filepath.Join(m.Dir, "platform"))); err != nil {
				return stop, err
			}
			if err := os.Remove(filepath.Join(authority, "chip")); err != nil {
				return stop, err
			}
		}
		root, err := os.ReadFile(m.Root())
		if err != nil {
			return stop, err
		}
		roots = append(roots, root...)
		if err := g.ask(ctx, x.name); err != nil {
			return stop, fmt.Errorf("machine %s: %w", x.name, err)
		}
	}
	if err := shared.a.askTogether(ctx); err != nil {
		return stop, err
	}
	shared.roots = filepath.Join(dir, "roots.pem")
	shared.at = time.Now().Truncate(time.Second).Add(time.Second)
	return stop, os.WriteFile(shared.roots, roots, 0o600)
}

// ask has the machine measure and attest.
func (g *guest) ask(ctx context.Context, name string) (err error) {
	if err = g.measure(ctx, "first", name); err != nil {
		return err
	}
	if g.stale, err = g.evidence(ctx, other, evidence.Fresh); err != nil {
		return err
	}
	if g.fresh, err = g.evidence(ctx, nonce, evidence.Fresh); err != nil {
		return err
	}
	if err = g.measure(ctx, "second", name); err != nil {
		return err
	}
	g.anchored, err = g.evidence(ctx, nonce, evidence.Anchored)
	return err
}

func (g *guest) evidence(ctx context.Context, nonce []byte, f evidence.Freshness) ([]byte, error) {
	return g.Client().Evidence(ctx, api.EvidenceRequest{Nonce: nonce, Freshness: f})
}

// measure declares and measures an application whose content differs on each machine.
func (g *guest) measure(ctx context.Context, app, content string) error {
	file := filepath.Join(g.Dir, app)
	if err := os.WriteFile(file, []byte(app+" of "+content), 0o755); err != nil {
		return err
	}
	if err := g.Declare(app, file); err != nil {
		return err
	}
	if _, err := g.Admin().Reload(ctx); err != nil {
		return err
	}
	_, err := g.Admin().Measure(ctx, app)
	return err
}

// askTogether asks as two callers until both end up in one batch.
func (g *guest) askTogether(ctx context.Context) error {
	for {
		const each = 8
		documents, errs := make([][]byte, 2*each), make([]error, 2*each)
		var all sync.WaitGroup
		for i := range documents {
			all.Go(func() { documents[i], errs[i] = g.evidence(ctx, [][]byte{nonce, other}[i%2], evidence.Anchored) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		batches := make(map[evidence.TreeHead][2][]byte)
		for i, d := range documents {
			e, err := evidence.Parse(d)
			if err != nil {
				return err
			}
			pair := batches[e.Batch.Tree]
			pair[i%2] = d
			batches[e.Batch.Tree] = pair
			if pair[0] != nil && pair[1] != nil {
				g.mine, g.neighbour = pair[0], pair[1]
				return nil
			}
		}
	}
}
