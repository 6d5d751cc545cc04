// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

// upgrade is an upgrade on its way: an old machine, its successor, and what was said so far.
// The two share folder, chip and TPM, or nothing.
type upgrade struct {
	old, next *world
	shared    bool
	key       sealing.StoreKey
	offer     transfer.Offer
	request   *transfer.Request
	answer    []byte
}

// clone copies everything; what the two machines share they share again.
func (u *upgrade) clone() *upgrade {
	c := *u
	c.old = u.old.clone()
	if u.shared {
		c.next = c.old.launched(imageB)
	} else {
		c.next = u.next.clone()
	}
	return &c
}

// uStep is a step of one side. Do asks a store of that side; repeated after a crash it succeeds.
type uStep struct {
	name string
	old  bool // whose step it is
	do   func(context.Context, *store.Store, *upgrade) error
}

func upgradeSteps() []uStep {
	return []uStep{
		{"prepare", true, func(_ context.Context, s *store.Store, u *upgrade) (err error) { u.offer, err = prepare(s); return err }},
		{"ask", false, func(_ context.Context, s *store.Store, u *upgrade) (err error) {
			u.request, err = ask(s, u.offer)
			return err
		}},
		{"hand over", true, func(_ context.Context, s *store.Store, u *upgrade) (err error) {
			u.answer, err = handOver(s, u.request)
			return err
		}},
		{"accept", false, func(_ context.Context, s *store.Store, u *upgrade) error { return accept(s, u.answer, u.key) }},
	}
}

// TestUpgradeCrashMatrix: case 123. It breaks every change of files and TPM that every step of both sides makes,
// before and after it took effect, for good or once. After each the step is repeated, and the
// upgrade goes on to its end; then the old side goes back, or root finishes: each opens what it
// must, and the TPM has one counter for each.
func TestUpgradeCrashMatrix(t *testing.T) {
	points, crashes := 0, 0
	for _, shared := range []bool{true, false} {
		w, derived := oldWorld(t)
		at := &upgrade{old: w, shared: shared, next: w.launched(imageB), key: state(t, w.ready(t)).StoreKey}
		if !shared {
			at.next = newWorld()
			at.next.machine.setChip("chip two")
			at.next.machine.now.Measurement[0] = imageB
			at.next.config.LoseOnHardwareChange = false
		}
		steps := upgradeSteps()
		for i, step := range steps {
			n, c := crashStep(t, at, steps, i, derived)
			points, crashes = points+n, crashes+c
			if err := step.run(t, at, &fault{at: -1}); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
		}
		for name, last := range map[string]uStep{
			"finish":  {"finish", false, func(ctx context.Context, s *store.Store, _ *upgrade) error { return s.Finish(ctx) }},
			"give up": {"give up", true, func(ctx context.Context, s *store.Store, _ *upgrade) error { _, err := s.GiveUp(ctx); return err }},
		} {
			if name == "finish" && !shared {
				continue
			}
			n, c := crashLast(t, at, last, derived)
			points, crashes = points+n, crashes+c
		}
	}
	t.Logf("N = %d durable calls, %d faults", points, crashes)
	if points < 40 {
		t.Errorf("only %d durable calls: the matrix is broken", points)
	}
}

// run opens the store of that side under a fault, and makes the step.
func (x uStep) run(t *testing.T, u *upgrade, f *fault) error {
	side := u.next
	if x.old {
		side = u.old
	}
	s := side.open(t)
	side.setFault(f)
	defer side.setFault(&fault{at: -1})
	return x.do(t.Context(), s, u)
}

// each calls do for every fault of a step from a copy of u.
func (x uStep) each(t *testing.T, u *upgrade, do func(name string, u *upgrade, f *fault)) (points, crashes int) {
	t.Helper()
	count := &fault{at: -1}
	if err := x.run(t, u.clone(), count); err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	for at := range count.n {
		for _, after := range []bool{false, true} {
			for _, once := range []bool{false, true} {
				crashes++
				name := fmt.Sprintf("shared %v, %s: %s, after %v, once %v", u.shared, x.name, strings.Split(count.names[at], "-")[0], after, once)
				do(name, u.clone(), &fault{at: at, after: after, once: once})
			}
		}
	}
	t.Logf("shared %-5v %-10s %2d durable calls", u.shared, x.name, count.n)
	return count.n, crashes
}

// crashStep breaks step i, and goes on to the end.
func crashStep(t *testing.T, u *upgrade, steps []uStep, i int, derived string) (points, crashes int) {
	return steps[i].each(t, u, func(name string, u *upgrade, f *fault) {
		_ = steps[i].run(t, u, f)
		// Whatever happened: the old image, or the successor, has everything.
		if old, next := whole(derived)(u.old.open(t)), whole(derived)(u.next.open(t)); old != nil && next != nil {
			t.Errorf("%s: neither the old image (%v) nor the successor (%v) opens", name, old, next)
		}
		for _, step := range steps[i:] {
			if err := step.run(t, u, &fault{at: -1}); err != nil {
				t.Errorf("%s: %s after it: %v", name, step.name, err)
				return
			}
		}
		checkUpgraded(t, name, u, derived)
	})
}

// checkUpgraded checks the successor, and that the old side can go back.
func checkUpgraded(t *testing.T, name string, u *upgrade, derived string) {
	t.Helper()
	b := u.clone()
	if err := whole(derived)(b.next.open(t)); err != nil {
		t.Errorf("%s: the successor: %v", name, err)
		return
	}
	sealText(t, b.next.open(t), ledger, "next", "of B")
	if err := all(whole(derived), holds(ledger, "next", "of B"))(b.next.open(t)); err != nil {
		t.Errorf("%s: the successor after a change: %v", name, err)
	}
	back := u.clone()
	if _, err := back.old.open(t).GiveUp(t.Context()); err != nil {
		t.Errorf("%s: going back: %v", name, err)
		return
	}
	sealText(t, back.old.open(t), ledger, "next", "of A")
	if err := all(whole(derived), holds(ledger, "next", "of A"))(back.old.open(t)); err != nil {
		t.Errorf("%s: after going back: %v", name, err)
	}
	if n := len(back.old.tpm.counters); n != 1 {
		t.Errorf("%s: %d counters in the old TPM after going back", name, n)
	}
}

// crashLast breaks the last step of an upgrade that was accepted, and repeats it.
func crashLast(t *testing.T, u *upgrade, x uStep, derived string) (points, crashes int) {
	return x.each(t, u, func(name string, u *upgrade, f *fault) {
		first := x.run(t, u, f)
		again := x.run(t, u, &fault{at: -1})
		side := u.next
		if x.old {
			side = u.old
		}
		if first != nil && again != nil {
			if err := whole(derived)(side.open(t)); err != nil {
				t.Errorf("%s: %v, once more: %v, and then %v", name, first, again, err)
			}
		}
		if err := whole(derived)(side.open(t)); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		sealText(t, side.open(t), ledger, "next", "next")
		if n := len(side.tpm.counters); n != 1 {
			t.Errorf("%s: %d counters in the TPM", name, n)
		}
	})
}
