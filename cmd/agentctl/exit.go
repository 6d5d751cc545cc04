// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime/debug"
)

// Exit codes. 2 to 5 are those of the classes of package verify.
const (
	exitOK           = 0
	exitMisuse       = 1 // wrong usage, or another failure
	exitUnavailable  = 6 // agent or device not available
	exitNotPermitted = 7 // this caller may not do it
	exitSealed       = 8 // a sealed blob cannot be opened

	// exitFault is EX_SOFTWARE of sysexits.h: agentctl itself is at fault. The runtime
	// would end a panic with 2, which says that evidence was forged.
	exitFault = 70
)

// recoverFault turns a panic into an exit code, for a deferred call. A report of the fault
// needs the stack.
func (t *terminal) recoverFault(code *int) {
	fault := recover()
	if fault == nil {
		return
	}
	*code = exitFault
	fmt.Fprintf(t.err, "agentctl: agentctl itself has a fault, which says nothing about its input: %s\n%s", clean(fmt.Sprint(fault)), debug.Stack())
	fmt.Fprintln(t.err, "hint: please report this, with the lines above")
}

// exitError is an error that knows the exit code and what to do next.
type exitError struct {
	code int
	err  error  // nil if everything was printed already
	hint string // what to do next; may be empty
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func (e *exitError) withHint(hint string) *exitError {
	e.hint = hint
	return e
}

func misuse(err error) *exitError { return &exitError{code: exitMisuse, err: err} }

// misuseIf returns misuse of an error, and nil if there is none.
func misuseIf(err error) error {
	if err == nil {
		return nil
	}
	return misuse(err)
}
