// SPDX-License-Identifier: Apache-2.0

// Agentctl asks the attestation agent of this machine for evidence, verifies
// evidence of any machine, and shows what both consist of.
package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// farewell is how long an interrupted command has to end by itself: to close files and
// remove a partial one. A command that reads a terminal or a pipe never ends by itself.
const farewell = 500 * time.Millisecond

func main() {
	signals := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if !signal.Ignored(s) { // a shell without job control ignores it for what runs in the background
			signal.Notify(signals, s)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	t := &terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, lasts: new(atomic.Int64)}
	go func() { ended <- run(ctx, os.Args[1:], t) }()
	select {
	case code := <-ended:
		os.Exit(code)
	case s := <-signals:
		cancel()
		select {
		case <-ended:
		case <-signals:
		case <-time.After(cmp.Or(time.Duration(t.lasts.Load()), farewell)):
		}
		die(s.(syscall.Signal))
	}
}

// die ends the process as the signal would have. Shells and units then see that it was
// interrupted, and do not mistake the exit code for a verdict.
func die(s syscall.Signal) {
	signal.Reset(s)
	syscall.Kill(syscall.Getpid(), s)
	time.Sleep(farewell) // the signal may come on another thread
	os.Exit(128 + int(s))
}
