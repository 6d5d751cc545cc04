// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/cvm-agentd/agentd/internal/text"
)

func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// What ends a command, or a wait for it.
var (
	errTime  = errors.New("it took too long")
	errFlood = errors.New("it wrote too much")
	errOpen  = errors.New("it ended, and something that it started keeps its output open")
)

// capped keeps what a command writes, up to [MaxOutput], and ends the command when it writes more. The
// buffer is not embedded: its own ReadFrom would take everything in, past the cap.
type capped struct {
	kept bytes.Buffer
	end  context.CancelCauseFunc
}

func (c *capped) Write(p []byte) (int, error) {
	if left := MaxOutput - c.kept.Len(); len(p) > left {
		c.kept.Write(p[:left])
		c.end(errFlood)
		return left, errFlood
	}
	return c.kept.Write(p)
}

// afterEnd is how long the output of an ended command is waited for: a process that left its group
// may keep it open.
const afterEnd = 5 * time.Second

// ask runs the command on a folder and reads its answer. The error says what came instead of one.
func ask(ctx context.Context, command []string, dir string, timeout time.Duration) (*Answer, error) {
	limited, stop := context.WithTimeoutCause(ctx, timeout, errTime)
	defer stop()
	running, end := context.WithCancelCause(limited)
	defer end(nil)
	stdout, stderr := &capped{end: end}, &capped{end: end}
	c := exec.CommandContext(running, command[0], append(command[1:len(command):len(command)], dir)...)
	c.Env = append(os.Environ(), Variable)
	c.Stdout, c.Stderr, c.WaitDelay = stdout, stderr, afterEnd
	// Its own group, so that what it started ends with it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err := c.Run()
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // what it left running
	}
	cause := context.Cause(running)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(cause, errFlood):
		return nil, fmt.Errorf("%w: more than %d bytes", errFlood, MaxOutput)
	case errors.Is(cause, errTime):
		return nil, fmt.Errorf("%w: more than %v", errTime, timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, errOpen
	case err != nil:
		return nil, fmt.Errorf("it ended with %w%s", err, said(stderr.kept.Bytes()))
	}
	a, err := parseAnswer(stdout.kept.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, said(stderr.kept.Bytes()))
	}
	return a, nil
}

// maxSaid is how much of a text of the command a report repeats, in bytes.
const maxSaid = 300

// said returns the end of what a command wrote to standard error, for a report.
func said(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return ""
	}
	if len(b) > maxSaid {
		b = b[len(b)-maxSaid:]
	}
	return ": " + text.Fit(string(b), maxSaid)
}
