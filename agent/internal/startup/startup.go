// SPDX-License-Identifier: Apache-2.0

// Package startup starts the parts of the agent in order.
//
// A [Supervisor] runs steps in their order, again with growing pauses until all succeed.
// A step that succeeded before returns at once, so that a later attempt continues where
// the last one ended. What only a person can change is a [Refusal], which ends the agent.
// A [Part] is a value that a step provides; requests wait for it.
//
// Nothing is kept on disk: after a crash the next process runs all steps.
package startup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrNotUp is the error for a part that is not up; it wraps the reason.
var ErrNotUp = errors.New("the agent is not ready")

// A Refusal is an error that waiting does not repair: the agent ends with it.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the error that the refusal is made of.
func (r *Refusal) Unwrap() error { return r.Err }

// Pauses between two attempts.
const (
	FirstPause   = 500 * time.Millisecond
	LongestPause = 30 * time.Second
)

// A Step brings one part up, and returns at once if that is up already.
type Step struct {
	What string
	Do   func(context.Context) error
}

// A Supervisor runs the steps. Its methods may be called by many goroutines.
type Supervisor struct {
	log      *slog.Logger
	tried    chan struct{}       // closed by the end of the first attempt
	again    chan struct{}       // a value ends the pause before the next attempt
	attempts *semaphore.Weighted // of one; taken by attempts and by Exclusive

	mu    sync.Mutex    // guards the two below, which only attempt writes
	trial error         // why the last attempt failed
	round chan struct{} // closed by the end of the next attempt
}

// New returns a Supervisor that has not tried anything.
func New(log *slog.Logger) *Supervisor {
	return &Supervisor{log: log, tried: make(chan struct{}), again: make(chan struct{}, 1), attempts: semaphore.NewWeighted(1), round: make(chan struct{})}
}

// Run runs the steps until all of them succeed or ctx ends, and reports whether they did.
// The error is a [Refusal].
func (s *Supervisor) Run(ctx context.Context, steps []Step) (up bool, err error) {
	first := sync.OnceFunc(func() { close(s.tried) })
	for pause := FirstPause; ; pause = min(2*pause, LongestPause) {
		err := s.attempt(ctx, steps)
		if _, refusal := errors.AsType[*Refusal](err); refusal {
			return false, err
		}
		first()
		if err == nil {
			return true, nil
		}
		s.log.Error("not ready, trying again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(pause):
		case <-s.again:
			pause = FirstPause
		}
	}
}

// attempt runs the steps once and records the result.
func (s *Supervisor) attempt(ctx context.Context, steps []Step) error {
	if err := s.attempts.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.attempts.Release(1)
	err := s.steps(ctx, steps)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial = err
	close(s.round)
	s.round = make(chan struct{})
	return err
}

func (s *Supervisor) steps(ctx context.Context, steps []Step) error {
	for _, step := range steps {
		begin := time.Now()
		if err := step.Do(ctx); err != nil {
			return err
		}
		s.log.Debug("brought up", "part", step.What, "took", time.Since(begin))
	}
	return nil
}

// Tried returns a channel that is closed by the end of the first attempt.
func (s *Supervisor) Tried() <-chan struct{} { return s.tried }

// Wait waits until the first attempt is over. The error is that of ctx.
func (s *Supervisor) Wait(ctx context.Context) error {
	select {
	case <-s.tried:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait until the agent is ready: %w", ctx.Err())
	}
}

// Err returns why the last attempt failed, nil if it succeeded or none has ended.
func (s *Supervisor) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trial
}

// Ready waits until the first attempt is over. The error says why not all parts are up, and
// is [ErrNotUp].
func (s *Supervisor) Ready(ctx context.Context) error {
	err := s.Wait(ctx)
	if err == nil {
		err = s.Err()
	}
	if err == nil {
		return nil
	}
	return missing(err)
}

// Missing returns the error for a part that is not up.
func (s *Supervisor) Missing() error { return missing(s.Err()) }

func missing(err error) error {
	if err == nil {
		return ErrNotUp
	}
	return fmt.Errorf("%w: %w", ErrNotUp, err)
}

// Exclusive runs f while no attempt runs. The channel is closed by the end of the next
// attempt.
func (s *Supervisor) Exclusive(ctx context.Context, f func() error) (round <-chan struct{}, err error) {
	if err := s.attempts.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait until the agent is ready: %w", err)
	}
	defer s.attempts.Release(1)
	if err := f(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.round, nil
}

// Hurry ends the pause before the next attempt.
func (s *Supervisor) Hurry() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// A Part is a value that a step brings up and that stays until the agent ends.
type Part[T any] struct {
	supervisor *Supervisor
	value      atomic.Pointer[T] // written by the step that brings the part up
}

// NewPart returns a part of s that is not up.
func NewPart[T any](s *Supervisor) *Part[T] { return &Part[T]{supervisor: s} }

// Once returns what brings the part up with the value of bring, and does nothing if it is up.
func (p *Part[T]) Once(bring func(context.Context) (T, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, up := p.Now(); up {
			return nil
		}
		v, err := bring(ctx)
		if err == nil {
			p.Set(v)
		}
		return err
	}
}

// Set makes v the value of the part, which is up from then on.
func (p *Part[T]) Set(v T) { p.value.Store(&v) }

// Now returns the value, and whether the part is up.
func (p *Part[T]) Now() (v T, up bool) {
	if at := p.value.Load(); at != nil {
		return *at, true
	}
	return v, false
}

// Wait waits until the first attempt is over and returns the value. The error says why
// the part is not up, and is [ErrNotUp].
func (p *Part[T]) Wait(ctx context.Context) (T, error) {
	waited := p.supervisor.Wait(ctx)
	v, up := p.Now()
	switch {
	case waited != nil:
		var none T
		return none, missing(waited)
	case !up:
		return v, p.supervisor.Missing()
	}
	return v, nil
}
