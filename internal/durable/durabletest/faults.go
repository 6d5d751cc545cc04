// SPDX-License-Identifier: Apache-2.0

// Package durabletest is a disk in memory that fails or stops at a chosen step, for
// crash matrices. It tells what was written from what was synced, so that a power cut
// takes what a killed process leaves.
package durabletest

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A Mode is what happens at the chosen step.
type Mode int

// Only a step that writes bytes can be torn. Any other step is then not taken.
const (
	None       Mode = iota
	FailBefore      // error, nothing done
	FailAfter       // error, all done
	FailTorn        // error, half of it done
	FailFrom        // error, nothing done, and every later step too
	KillBefore      // the process ends, nothing done
	KillAfter       // the process ends, all done
	KillTorn        // the process ends, half of it done
)

// Modes are all modes that break something.
var Modes = []Mode{FailBefore, FailAfter, FailTorn, FailFrom, KillBefore, KillAfter, KillTorn}

func (m Mode) String() string {
	return [...]string{"none", "fail-before", "fail-after", "fail-torn", "fail-from", "kill-before", "kill-after", "kill-torn"}[m]
}

// Kills reports whether the process ends at the step.
func (m Mode) Kills() bool { return m >= KillBefore }

// Killed is the value that [Faults.Step] panics with when the process would have ended.
type Killed struct{ Step string }

// Faults counts the steps of everything that shares it, from 1, and breaks one of them.
type Faults struct {
	mu   sync.Mutex
	at   int
	mode Mode
	err  error
	n    int
	name string // name of the step that was broken
	dead bool
}

// Break arms f: step number at, counted from now, fails with err or ends the process.
func (f *Faults) Break(at int, mode Mode, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.mode, f.err, f.n, f.name, f.dead = at, mode, err, 0, "", false
}

// Steps returns the number of steps since the last Break. Broken returns the name of the step
// that was broken, empty if none was.
func (f *Faults) Steps() (n int, broken string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n, f.name
}

// Step takes one step: do is all of it, and half, which may be nil, half of it. On a
// process that has ended nothing happens any more.
func (f *Faults) Step(name string, do func() error, half func()) error {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return unix.EIO
	}
	f.n++
	hit := f.n == f.at || (f.mode == FailFrom && f.at > 0 && f.n > f.at)
	mode, err := f.mode, f.err
	if hit {
		if f.n == f.at {
			f.name = name
		}
		f.dead = mode.Kills()
	}
	f.mu.Unlock()
	if !hit {
		return do()
	}
	switch mode {
	case FailAfter, KillAfter:
		if e := do(); e != nil && !mode.Kills() {
			return e
		}
	case FailTorn, KillTorn:
		if half != nil {
			half()
		}
	}
	if mode.Kills() {
		panic(Killed{name})
	}
	return fmt.Errorf("%s: %w", name, err)
}
