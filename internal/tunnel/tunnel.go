// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Options say where an end runs.
type Options struct {
	// Listeners are the sockets on which connections are accepted. Metrics, if it is not nil, is one
	// on which figures are given out. Run closes all of them.
	Listeners []net.Listener
	Metrics   net.Listener

	// Load returns the settings: at the start, and for each signal of Reload.
	Load   func() (*Settings, error)
	Reload <-chan os.Signal

	// Log prints a line for people. It is called by many goroutines.
	Log func(line string)
}

// A tunnel is one end.
type tunnel struct {
	Options
	verifier *attestedtls.Verifier // nil: this end does not verify
	now      atomic.Pointer[setup] // for new connections
	told     *rate.Limiter         // lines about connections that failed
	access   *accessLog
	figures  *figures

	running sync.WaitGroup // of connections

	mu   sync.Mutex // guards the two below
	open int        // connections
	of   map[netip.Prefix]int
}

// Lines about connections that failed, each second and at once. A flood does not fill a disk.
const (
	linesPerSecond = 2
	linesAtOnce    = 20
)

// Run is one end, until ctx ends: then it accepts no more connections, and lets those that are open
// go on for the drain timeout. The error is that of the first Load, or that of a listener.
func Run(ctx context.Context, o Options) error {
	defer func() {
		for _, l := range o.Listeners {
			l.Close()
		}
		if o.Metrics != nil {
			o.Metrics.Close()
		}
	}()
	if len(o.Listeners) == 0 {
		return errNoListener
	}
	first, err := o.Load()
	if err != nil {
		return err
	}
	t := &tunnel{Options: o, of: map[netip.Prefix]int{}, told: rate.NewLimiter(linesPerSecond, linesAtOnce), access: newAccessLog(first.Access), figures: newFigures()}
	defer t.access.close()
	if t.verifier, err = verifierFor(first); err != nil {
		return err
	}
	s, err := ready(first, t.verifier)
	if err != nil {
		return err
	}
	t.now.Store(s)
	return t.run(ctx)
}

// run accepts connections until ctx ends, or a listener fails.
func (t *tunnel) run(ctx context.Context) error {
	connections, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	accepting, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, len(t.Listeners))
	var loops sync.WaitGroup
	for _, l := range t.Listeners {
		loops.Go(func() {
			if err := t.accept(accepting, connections, l); err != nil {
				failed <- fmt.Errorf("accept connections on %s: %w", address(l.Addr()), err)
			}
		})
	}
	if t.Metrics != nil {
		defer t.serveFigures(t.Metrics)()
	}
	t.notify(readyState)
	t.notifyStatus()
	err := t.wait(ctx, failed)
	t.notify(stoppingState)
	stop()
	for _, l := range t.Listeners {
		l.Close()
	}
	loops.Wait()
	t.drain(cut)
	return err
}

// wait reloads when it is told to, until ctx ends or a listener fails.
func (t *tunnel) wait(ctx context.Context, failed <-chan error) error {
	status := time.NewTicker(statusPause)
	defer status.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-t.Reload:
			t.notify(reloadingState())
			t.reload()
			t.notify(readyState)
			t.notifyStatus()
		case <-status.C:
			t.notifyStatus()
		}
	}
}

// drain waits for open connections, and cuts off those that stay.
func (t *tunnel) drain(cut context.CancelFunc) {
	ended := make(chan struct{})
	go func() {
		t.running.Wait()
		close(ended)
	}()
	late := time.NewTimer(t.now.Load().Limits.Drain)
	defer late.Stop()
	select {
	case <-ended:
		return
	case <-late.C:
	}
	cut()
	<-ended
}

// reload puts new settings into force. If they cannot be used, the old ones stay.
func (t *tunnel) reload() {
	closed, err := t.replace()
	t.figures.reloaded(err == nil)
	switch {
	case err != nil:
		t.Log(fmt.Sprintf("reload: %v: the settings of before stay in force", err))
	case closed > 0:
		t.Log(fmt.Sprintf("reloaded; the new policy refuses %s, and closed what it refuses", text.Count(closed, "open connection")))
	default:
		t.Log("reloaded")
	}
}

func (t *tunnel) replace() (closed int, err error) {
	n, err := t.Load()
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil && n.Access != nil {
			n.Access.Close()
		}
	}()
	if err := t.now.Load().restarts(n); err != nil {
		return 0, err
	}
	s, err := ready(n, t.verifier)
	if err != nil {
		return 0, err
	}
	if t.verifier != nil {
		if closed, err = t.verifier.ReplaceSigned(n.signed(), n.Trust); err != nil {
			return 0, err
		}
	}
	t.access.replace(n.Access)
	t.now.Store(s)
	return closed, nil
}

// Pauses after accept failed because the machine is short of something.
const (
	firstPause = 5 * time.Millisecond
	mostPause  = time.Second
)

// accept accepts connections until ctx ends.
func (t *tunnel) accept(ctx, connections context.Context, l net.Listener) error {
	pause := firstPause
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				reset(c)
			}
			return nil
		case err == nil:
			pause = firstPause
			t.running.Add(1)
			go func() {
				defer t.running.Done()
				t.handle(connections, c)
			}()
			continue
		case errors.Is(err, unix.ECONNABORTED): // before it was accepted
			continue
		case !durable.Short(err):
			return err
		}
		if t.told.Allow() {
			t.Log(fmt.Sprintf("accept connections on %s: %v; trying again", address(l.Addr()), err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, mostPause)
	}
}

// enter counts a connection of p, unless there are too many.
func (t *tunnel) enter(p netip.Prefix, l Limits) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.open >= l.Connections:
		return fmt.Errorf("%d connections are open (max-connections)", t.open)
	case p.IsValid() && t.of[p] >= l.PerAddress:
		return fmt.Errorf("%d connections of %v are open (max-connections-per-address)", t.of[p], p)
	}
	t.open++
	t.of[p]++
	return nil
}

// leave is the opposite of enter.
func (t *tunnel) leave(p netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	if t.of[p]--; t.of[p] == 0 {
		delete(t.of, p)
	}
}
