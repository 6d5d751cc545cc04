// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/service/internal/traces"
)

// maxGathered is how many questions one statement answers.
const maxGathered = 64

// A gatherer has one statement answer the questions of all that wait. While it runs, the next questions
// gather. So a statement begins after each of its questions was asked, and what it finds is as new as if
// each had one of its own. Many clients at once then cost the database little more than one.
type gatherer[Q comparable, A any] struct {
	s       *Store
	attempt string // what a question is to do, for traces and errors
	in      chan *question[Q, A]
	answer  func(context.Context, []Q) ([]A, error) // in their order
}

type question[Q comparable, A any] struct {
	what   Q
	answer A
	err    error
	done   chan struct{}
}

// gather returns a gatherer, which works until the store is closed.
func gather[Q comparable, A any](s *Store, attempt string, answer func(context.Context, []Q) ([]A, error)) *gatherer[Q, A] {
	g := &gatherer[Q, A]{s: s, attempt: attempt, in: make(chan *question[Q, A]), answer: answer}
	s.ended.Go(func() { takeAll(s.ctx, g.in, maxGathered, g.work) })
	return g
}

// ask waits for the answer to one question, also if its client leaves.
func (g *gatherer[Q, A]) ask(ctx context.Context, what Q) (answer A, err error) {
	ctx, part := traces.Begin(ctx, g.attempt)
	defer func() { part.End(err) }()
	ctx, cancel := bounded(ctx)
	defer cancel()
	q := &question[Q, A]{what: what, done: make(chan struct{})}
	select {
	case g.in <- q:
	case <-ctx.Done():
		return answer, g.s.explain(g.attempt, ctx.Err())
	case <-g.s.ctx.Done():
		return answer, g.s.explain(g.attempt, context.Canceled)
	}
	<-q.done // the statement ends after the patience of an operation
	return q.answer, q.err
}

func (g *gatherer[Q, A]) work(all []*question[Q, A]) {
	asked := make([]Q, len(all))
	for i, q := range all {
		asked[i] = q.what
	}
	answers, err := g.answer(g.s.ctx, asked)
	for i, q := range all {
		if q.err = err; err == nil {
			q.answer = answers[i]
		}
		close(q.done)
	}
}

// takeAll has work do what waits in a channel, at most so many at once, until ctx ends.
func takeAll[T any](ctx context.Context, in <-chan T, most int, work func([]T)) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-in:
			all := []T{first}
			for more := true; more && len(all) < most; {
				select {
				case next := <-in:
					all = append(all, next)
				default:
					more = false
				}
			}
			work(all)
		}
	}
}

// marks returns the marks of n parameters that follow others, for a statement with a list of values.
func marks(after, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("$%d", after+i+1)
	}
	return strings.Join(all, ", ")
}
