// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestStuck: the gate ends if more files than it can bear are on file systems that do not answer. Any
// number of decisions that end with their deadline is none.
func TestStuck(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	g := &Gate{fail: fail, grace: long}
	var all sync.WaitGroup
	for range 4 * maxStuck {
		verdict := make(chan bool)
		all.Go(func() {
			if g.outlives(verdict) {
				t.Error("a decision that ends counts")
			}
		})
		all.Go(func() { verdict <- true })
	}
	all.Wait()
	g.grace = time.Millisecond
	for n := range maxStuck {
		if !g.outlives(nil) || ctx.Err() != nil {
			t.Fatalf("decision %d: %v", n, context.Cause(ctx))
		}
	}
	if g.outlives(nil); ctx.Err() == nil {
		t.Errorf("%d decisions are stuck, and the gate goes on", g.stuck.Load())
	}
}
