// SPDX-License-Identifier: Apache-2.0

package startup

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

var errDisk = errors.New("disk full")

func supervisor() *Supervisor { return New(slog.New(slog.DiscardHandler)) }

// TestRunGoesOn: a step that fails is tried again after a pause, each step runs after the one
// before, and requests learn after the first attempt why a part is not up.
func TestRunGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervisor()
		first, second := NewPart[int](s), NewPart[int](s)
		tries := 0
		steps := []Step{
			{"first", func(context.Context) error { first.Set(1); return nil }},
			{"second", func(context.Context) error {
				if tries++; tries < 3 {
					return errDisk
				}
				second.Set(2)
				return nil
			}},
		}
		start := time.Now()
		done := make(chan bool)
		go func() {
			up, err := s.Run(t.Context(), steps)
			done <- up && err == nil
		}()
		if v, err := first.Wait(t.Context()); v != 1 || err != nil {
			t.Errorf("first: %v, %v", v, err)
		}
		if _, err := second.Wait(t.Context()); !errors.Is(err, ErrNotUp) || !errors.Is(err, errDisk) {
			t.Errorf("second: %v", err)
		}
		if err := s.Ready(t.Context()); !errors.Is(err, ErrNotUp) || !errors.Is(err, errDisk) {
			t.Errorf("ready: %v", err)
		}
		if !<-done || tries != 3 || time.Since(start) != 3*FirstPause {
			t.Errorf("%d tries in %v", tries, time.Since(start))
		}
		if v, err := second.Wait(t.Context()); v != 2 || err != nil || s.Ready(t.Context()) != nil {
			t.Errorf("second: %v, %v", v, err)
		}
	})
}

// TestRefusalEnds: what waiting does not repair ends the start, and no request is told that
// the first attempt is over.
func TestRefusalEnds(t *testing.T) {
	s := supervisor()
	up, err := s.Run(t.Context(), []Step{{"x", func(context.Context) error { return &Refusal{errDisk} }}})
	var refusal *Refusal
	if up || !errors.As(err, &refusal) || !errors.Is(err, errDisk) {
		t.Errorf("%v, %v", up, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	part := NewPart[int](s)
	part.Set(1)
	if v, err := part.Wait(ended); v != 0 || !errors.Is(err, ErrNotUp) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", v, err)
	}
}

// TestExclusive: what replaces a part runs while no attempt does, ends the pause before the
// next one, and learns when that is over.
func TestExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := supervisor()
		running, fixed := false, false
		step := func(context.Context) error {
			running = true
			time.Sleep(time.Second) // of the bubble
			running = false
			if !fixed {
				return errDisk
			}
			return nil
		}
		done := make(chan bool)
		go func() {
			up, _ := s.Run(ctx, []Step{{"x", step}})
			done <- up
		}()
		synctest.Wait() // the attempt runs
		start := time.Now()
		round, err := s.Exclusive(ctx, func() error {
			if fixed = true; running {
				t.Error("an attempt runs")
			}
			return nil
		})
		if err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		s.Hurry()
		<-round
		if !<-done || time.Since(start) != 2*time.Second || s.Err() != nil {
			t.Errorf("up after %v: %v", time.Since(start), s.Err())
		}
		if _, err := s.Exclusive(ctx, func() error { return errDisk }); !errors.Is(err, errDisk) {
			t.Error(err)
		}
		cancel()
		if _, err := s.Exclusive(ctx, func() error { t.Error("called"); return nil }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
