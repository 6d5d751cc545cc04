// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
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
	code  int
	err   error    // nil if everything was printed already
	found api.Code // of what agentctl itself found; may be empty
	hint  string   // what to do next; may be empty
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

// sockets are the paths of the agent's sockets; empty means the default.
type sockets struct {
	client, admin string
}

func (s *sockets) clientSocket() *client.Client { return &client.Client{Socket: s.client} }
func (s *sockets) adminSocket() *client.Admin   { return &client.Admin{Socket: s.admin} }

// memoryTime is how long the agent has for what it answers from memory. It takes less
// than a millisecond, and longer only if the machine hangs or another program listens on
// the socket.
const memoryTime = 30 * time.Second

// errHangs is returned if the socket was connected and no answer came.
var errHangs = fmt.Errorf("no answer within %v", memoryTime)

// soon asks what the agent answers from memory.
func soon[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, memoryTime, errHangs)
	defer cancel()
	answer, err := ask(ctx)
	if err != nil && context.Cause(ctx) == errHangs {
		err = fmt.Errorf("%w: %w", errHangs, err)
	}
	return answer, err
}

// failed returns the exit for an error of the agent, or of the connection to it.
func failed(err error) *exitError {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		info := p.Code.Info()
		return &exitError{code: info.Exit, err: err, hint: info.Hint}
	}
	switch {
	case errors.Is(err, errHangs):
		return (&exitError{code: exitUnavailable, err: err}).withHint("the agent runs but hangs: `journalctl -u agentd` may say why, `systemctl restart agentd` restarts it")
	case errors.Is(err, fs.ErrPermission):
		return (&exitError{code: exitNotPermitted, err: err}).withHint("the client socket is for the group agentd-clients, the admin socket for root")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return (&exitError{code: exitUnavailable, err: err}).withHint("`systemctl status agentd` says whether it runs")
	}
	return &exitError{code: exitUnavailable, err: err}
}
