// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/sealing"
)

// kills of each operation, spread over what it does to the disk and the TPM.
const kills = 10

// TestKilledWhileWriting: case 73. The agent is killed, and its TPM with it, in the
// middle of sealing, rotating and re-wrapping, each time at another of the changes
// that can be seen in the folders of store and TPM. Afterwards the old or the new
// opens, what was acknowledged is there, and the machine goes on from there.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	for _, o := range []struct {
		name string
		run  func(*bed, func(*bed) *watch) round
	}{{"seal", sealRound}, {"rotate", rotateRound}, {"rewrap", rewrapRound}} {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.seal(billing, "kept", "kept")
			never := func(b *bed) *watch { return newWatch(b, 0) }
			total := o.run(b, never).seen // no process is killed
			if total < 3 {
				t.Fatalf("only %d changes were seen: nothing is watched", total)
			}
			var old, new, acknowledged int
			var moments []string
			for k := range kills {
				r := o.run(b, func(b *bed) *watch { return newWatch(b, 1+k*total/(kills-1)) }) // the last one when it is done
				b.holds(o.name, r)
				switch {
				case r.new:
					new++
				default:
					old++
				}
				if r.acknowledged {
					acknowledged++
				}
				moments = append(moments, r.moment)
			}
			t.Logf("%s: %d changes to store and TPM, %d kills: the old opens after %d, the new after %d; %d were acknowledged; %d files that no manifest lists\nkilled at: %s",
				o.name, total, kills, old, new, acknowledged, b.store().Status.Orphans, strings.Join(moments, ", "))
		})
	}
}

// round is one operation that was killed, or not.
type round struct {
	seen         int    // changes
	moment       string // the last one
	acknowledged bool   // the caller was told that it is done
	new          bool   // it was done
}

// holds checks what must hold after every round: the machine is on again.
func (b *bed) holds(what string, r round) {
	b.t.Helper()
	if r.acknowledged && !r.new {
		b.t.Errorf("%s, killed at %s: acknowledged, and it was not done", what, r.moment)
	}
	if got := b.unseal(billing, "kept", associatedFile); string(got.out) != "kept" {
		b.t.Errorf("%s, killed at %s: what was kept holds %q, %v", what, r.moment, got.out, got)
	}
	if d := b.try(billing, "", "key", "derive", "--label", "disk", "--length", "32", "--version", "1"); !bytes.Equal(d.out, shared.derived) {
		b.t.Errorf("%s, killed at %s: another secret is derived, %v", what, r.moment, d)
	}
	if s := b.store().Status; s.State != api.StateOK || !s.Counted {
		b.t.Errorf("%s, killed at %s: %+v", what, r.moment, s)
	}
}

// watch sees the folders of store and TPM change.
type watch struct {
	w  *fsnotify.Watcher
	at int
	// Reached is closed at change number at, which is never if at is 0.
	reached chan struct{}
	ended   chan struct{}

	mu   sync.Mutex
	seen int
	last string
}

func newWatch(b *bed, at int) *watch {
	b.t.Helper()
	w, err := fsnotify.NewWatcher()
	must(b.t, err)
	must(b.t, w.Add(b.sealed()))
	must(b.t, w.Add(filepath.Join(b.dir, "tpm")))
	x := &watch{w: w, at: at, reached: make(chan struct{}), ended: make(chan struct{})}
	go x.look()
	return x
}

func (x *watch) look() {
	defer close(x.ended)
	go func() {
		for range x.w.Errors { // a lost event makes a kill come later
		}
	}()
	for e := range x.w.Events {
		x.mu.Lock()
		x.seen++
		name, _, _ := strings.Cut(filepath.Base(e.Name), "-")
		x.last = fmt.Sprintf("%d %s %s", x.seen, strings.ToLower(e.Op.String()), name)
		if x.seen == x.at {
			close(x.reached)
		}
		x.mu.Unlock()
	}
}

// end is what was seen.
func (x *watch) end(r *round) {
	x.w.Close()
	<-x.ended
	r.seen, r.moment = x.seen, x.last
}

// interrupted runs a command against the agent, which is killed at the moment that the
// watch waits for, or when the command has ended. The machine is on again afterwards.
func (b *bed) interrupted(watched func(*bed) *watch, input string, c caller, args ...string) (r round) {
	b.t.Helper()
	b.on()
	cmd := b.command(c, args...)
	cmd.Stdin = strings.NewReader(input)
	x := watched(b)
	must(b.t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	select {
	case <-x.reached:
		b.off()
		err = <-done
	case err = <-done:
		b.off()
	}
	x.end(&r)
	r.acknowledged = err == nil
	b.on()
	return r
}

// sealRound seals "token" over what is there.
func sealRound(b *bed, watched func(*bed) *watch) round {
	b.t.Helper()
	b.on()
	old := string(b.unseal(billing, "token", associatedFile).out)
	next := old + "x"
	r := b.interrupted(watched, next, billing, "seal", "--name", "token", "--associated-data", inShared(associatedFile), "-")
	got := b.unseal(billing, "token", associatedFile)
	if s := string(got.out); s != old && s != next {
		b.t.Errorf("killed at %s: neither old nor new: %q, %v", r.moment, s, got)
	}
	r.new = string(got.out) == next
	return r
}

// rotateRound gives the app another root.
func rotateRound(b *bed, watched func(*bed) *watch) round {
	b.t.Helper()
	b.on()
	version := func(v int) reply {
		return b.try(billing, "", "key", "derive", "--label", "disk", "--length", "32", "--version", strconv.Itoa(v))
	}
	next := 2
	for ; version(next).exit == 0; next++ {
	}
	r := b.interrupted(watched, "", root, "key", "rotate", "billing")
	if got := b.unseal(billing, "token", associatedFile); string(got.out) != "hunter2" {
		b.t.Errorf("killed at %s: %q, %v", r.moment, got.out, got)
	}
	if got := version(next - 1); got.exit != 0 {
		b.t.Errorf("killed at %s: version %d is gone: %v", r.moment, next-1, got)
	}
	got := version(next)
	if got.exit != 0 && got.code != "not-found" {
		b.t.Errorf("killed at %s: version %d: %v", r.moment, next, got)
	}
	r.new = got.exit == 0
	return r
}

// rewrapRound raises the TCB: the agent seals everything anew by itself when it starts.
func rewrapRound(b *bed, watched func(*bed) *watch) (r round) {
	b.t.Helper()
	b.off()
	b.raise.snp++
	old := b.manifestTCB()
	cmd := exec.Command(filepath.Join(shared.commands, "agentd-sim"), append([]string{"--dir", b.dir}, b.args()...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	x := watched(b)
	must(b.t, cmd.Start())
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	finished := make(chan bool, 1)
	go func() { finished <- sealedAnew(ctx, filepath.Join(b.dir, "admin.sock")) }()
	select {
	case <-x.reached:
	case r.acknowledged = <-finished:
		if !r.acknowledged {
			b.t.Errorf("waited %v in vain until everything was sealed anew", patience)
		}
	}
	must(b.t, cmd.Process.Kill())
	cmd.Wait()
	b.locked()
	x.end(&r)
	r.new = b.manifestTCB() != old
	b.on()
	if got := b.unseal(billing, "token", associatedFile); string(got.out) != "hunter2" {
		b.t.Errorf("killed at %s: %q, %v", r.moment, got.out, got)
	}
	b.rewrapped()
	return r
}

// sealedAnew waits until the agent says that nothing rests on an older TCB.
func sealedAnew(ctx context.Context, socket string) bool {
	admin := &client.Admin{Socket: socket}
	defer admin.Close()
	for ctx.Err() == nil {
		s, err := admin.Store(ctx)
		if err == nil && s.Status.State == api.StateOK && !s.Status.Rewrap {
			return true
		}
		time.Sleep(10 * time.Millisecond) // not there yet, or in the middle of it
	}
	return false
}

// manifestTCB is what the manifest on disk is sealed to.
func (b *bed) manifestTCB() sealing.TCB {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.sealed(), "manifest.sealed"))
	must(b.t, err)
	blob, err := sealing.ParseBlob(raw)
	must(b.t, err)
	return blob.Claimed.Machine.TCB
}
