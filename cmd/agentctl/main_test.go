// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// asCommand has this test binary be agentctl.
const asCommand = "AGENTCTL_IN_A_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	if os.Getenv(asSystemd) != "" {
		waitForConnection()
	}
	os.Exit(m.Run())
}

// TestInterrupted: a signal ends every command, also one that reads what never comes,
// and it ends as by the signal: no exit code of ours that would say something else.
func TestInterrupted(t *testing.T) {
	silent := filepath.Join(t.TempDir(), "socket") // takes connections, and never answers
	listener, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	// Each way to see that a command waits.
	reads := func(in io.Writer) error { // more than a pipe buffers: only a reader lets it end
		_, err := in.Write(bytes.Repeat([]byte(" "), 100<<10))
		return err
	}
	asks := func(io.Writer) error {
		_, err := listener.Accept() // held open until the test ends
		return err
	}
	for _, c := range []struct {
		args  []string
		waits func(io.Writer) error
	}{
		{[]string{"show", "-"}, reads},
		{[]string{"verify", "--policy", "-", "--nonce", "00", "x"}, reads},
		{[]string{"status", "--socket", silent}, asks},
	} {
		for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			cmd := exec.CommandContext(ctx, os.Args[0], c.args...)
			cmd.Env = append(os.Environ(), asCommand+"=1")
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if err := c.waits(in); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			cancel()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != s || out.Len() > 0 {
				t.Errorf("%v, %v: ends with %v\n%s%s", c.args, s, err, out.String(), errs.String())
			}
		}
	}
}
