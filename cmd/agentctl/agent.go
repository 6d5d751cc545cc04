// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
)

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
	var p *api.Problem
	if errors.As(err, &p) {
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
