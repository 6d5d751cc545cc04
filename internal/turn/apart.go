// SPDX-License-Identifier: Apache-2.0

package turn

import (
	"context"
	"time"
)

// Apart runs f with a context that does not end with ctx, but after limit. It returns the
// result of f, or the error of ctx if that ends first; f goes on then. It is for work that
// changes the state of the agent, or that others wait for too: a caller who leaves must not
// interrupt it. Who the work is for stays the same.
func Apart[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	go func() {
		defer cancel()
		v, err := f(own)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
