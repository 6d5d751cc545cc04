// SPDX-License-Identifier: Apache-2.0

// Agentctl asks the attestation agent of this machine for evidence, verifies
// evidence of any machine, and shows what both consist of.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// farewell is how long a command that was interrupted has to end by itself: to close what
// it holds and remove a half-written file. One that reads a terminal or a pipe never does.
const farewell = 500 * time.Millisecond

func main() {
	signals := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if !signal.Ignored(s) { // as a shell without job control has it for what runs in the background
			signal.Notify(signals, s)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, os.Args[1:], &terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	}()
	select {
	case code := <-ended:
		os.Exit(code)
	case s := <-signals:
		cancel()
		select {
		case <-ended:
		case <-signals:
		case <-time.After(farewell):
		}
		die(s.(syscall.Signal))
	}
}

// die ends the process as the signal would have, so that shells and units see that it was
// interrupted and do not take it for a verdict.
func die(s syscall.Signal) {
	signal.Reset(s)
	syscall.Kill(syscall.Getpid(), s)
	time.Sleep(farewell) // the signal may come on another thread
	os.Exit(128 + int(s))
}
