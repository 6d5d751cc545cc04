// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// app returns a declaration of everything below the files.
func (f *files) app() *declaration.Declaration {
	return &declaration.Declaration{Name: "app", Directories: []string{f.path("")}, File: "app.toml"}
}

// TestHungCall has each call of the file system that a reading makes hang, one after the
// other. Read gives the reading up, no turn of hashing stays taken, and other apps are read. A
// call that has an answer at last changes nothing. Case 107.
func TestHungCall(t *testing.T) {
	w := newFiles(t)
	for _, name := range []string{"a", "b/c", "d"} {
		if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		w.write(name, name, 0o644)
	}
	if err := os.Symlink("a", w.path("link")); err != nil {
		t.Fatal(err)
	}
	calls := 0
	for at := 1; at == 1 || at <= calls; at++ {
		// In a bubble, a call that only takes long, since the machine is slow, does not hang.
		synctest.Test(t, func(t *testing.T) { calls = w.hang(t, at, calls) })
	}
}

// hang has the call of that number hang, counted from 1, and returns how many there are: calls, or
// what it counts if that is 0.
func (f *files) hang(t *testing.T, at, calls int) int {
	r := NewReader(1, 0)
	var mu sync.Mutex
	n := 0
	hang := make(chan struct{})
	r.touch = func(string) {
		mu.Lock()
		n++
		hangs := n == at
		mu.Unlock()
		if hangs {
			<-hang
		}
	}
	if calls == 0 {
		close(hang)
		if _, err := r.Read(t.Context(), f.app(), Look{}); err != nil || n < 10 {
			t.Fatalf("%d calls, %v", n, err)
		}
		calls, n, hang = n, 0, make(chan struct{})
	}
	p := NewProgress()
	_, err := r.Read(t.Context(), f.app(), Look{Progress: p, Answer: 20 * time.Millisecond})
	var hung *HungError
	if !errors.As(err, &hung) || !filepath.IsAbs(hung.Path) {
		t.Fatalf("call %d hangs: got %v", at, err)
	}
	if used := r.turns.Used(); used != 0 {
		t.Errorf("call %d hangs: %d turns of hashing stay taken", at, used)
	}
	select {
	case <-p.Ended():
		t.Errorf("call %d hangs: the reading counts as ended", at)
	default:
	}
	if got, err := r.Read(t.Context(), f.app(), Look{}); err != nil || len(got.Manifest) != 4 {
		t.Errorf("call %d hangs: another reading: %v", at, err)
	}
	close(hang)
	<-p.Ended()
	if used := r.turns.Used(); used != 0 {
		t.Errorf("call %d had an answer: %d turns of hashing are taken", at, used)
	}
	return calls
}

// TestSlowFilesKeepNoTurn: an app whose file system answers slowly, or not at all, keeps the turn of hashing
// for a moment, and not until it has an answer. Another app is read meanwhile. Then the slow one is read
// too.
func TestSlowFilesKeepNoTurn(t *testing.T) {
	const size = 64 * readBuffer
	for name, slow := range map[string]time.Duration{
		"each read takes 100 ms":      100 * time.Millisecond,
		"each read takes two minutes": 2 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newFiles(t), newFiles(t)
			a.write("slow", strings.Repeat("a", size), 0o644)
			for i := range 8 {
				b.write(fmt.Sprint(i), "b", 0o644)
			}
			synctest.Test(t, func(t *testing.T) {
				r := NewReader(1, 0)
				r.touch = func(path string) {
					if filepath.Base(path) == "slow" {
						time.Sleep(slow)
					}
				}
				began := time.Now()
				var took time.Duration
				done := make(chan error)
				go func() {
					_, err := r.Read(t.Context(), a.app(), Look{Answer: time.Hour})
					took = time.Since(began)
					done <- err
				}()
				time.Sleep(10 * slow) // it hashes
				second := time.Now()
				if got, err := r.Read(t.Context(), b.app(), Look{}); err != nil || len(got.Manifest) != 8 {
					t.Errorf("another app: %v", err)
				}
				// For each of its files it waits for one turn, and for the tick that ends one.
				if waited := time.Since(second); waited > 8*2*longestTurn {
					t.Errorf("another app is read within %v", waited)
				}
				if err := <-done; err != nil {
					t.Errorf("the slow app: %v", err)
				}
				if took < 64*slow {
					t.Errorf("the slow app was read within %v: it is not slow", took)
				}
			})
		})
	}
}

// TestWaitingIsNotHanging: who waits for a turn of hashing does not hang.
func TestWaitingIsNotHanging(t *testing.T) {
	w := newFiles(t)
	w.write("a", "a", 0o644)
	r := NewReader(1, 0)
	leave, err := r.turns.Enter(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProgress()
	read := make(chan error, 1)
	go func() {
		_, err := r.Read(t.Context(), w.app(), Look{Progress: p, Answer: time.Hour})
		read <- err
	}()
	waits := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.hands) == 2 && p.hands[0].since.IsZero() && p.hands[1].since.IsZero()
	}
	for end := time.Now().Add(time.Minute); !waits(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the reading does not wait for its turn")
		}
	}
	if path, hung := p.hung(0); hung {
		t.Errorf("waiting for a turn counts as hanging, at %q", path)
	}
	leave()
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// TestReadingIsBounded: a reading that is slow without hanging is given up too, and one whose
// caller leaves ends at once.
func TestReadingIsBounded(t *testing.T) {
	w := newFiles(t)
	w.write("a", "a", 0o644)
	r := NewReader(1, 0)
	slow := make(chan struct{})
	r.touch = func(string) { <-slow }
	p := NewProgress()
	_, err := r.Read(t.Context(), w.app(), Look{Progress: p, Answer: time.Hour, Whole: 20 * time.Millisecond})
	if hung, ok := errors.AsType[*HungError](err); !ok || hung.Within == 0 {
		t.Errorf("slow: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Read(ctx, w.app(), Look{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	close(slow)
	<-p.Ended()
}

// TestClassOfEachPiece: the class of a reading can rise while it is under way.
func TestClassOfEachPiece(t *testing.T) {
	w := newFiles(t)
	if err := os.Truncate(w.write("large", "", 0o644), 4*piece); err != nil {
		t.Fatal(err)
	}
	asked := 0
	who := func() turn.Who { asked++; return turn.Who{Class: turn.Inquiry + turn.Class(asked)} }
	if _, err := NewReader(1, 0).Read(t.Context(), w.app(), Look{Who: who}); err != nil || asked < 4 {
		t.Errorf("asked %d times for four pieces, %v", asked, err)
	}
}

// TestTurnAfterGivingUp: a turn that a goroutine gets when its reading was given up goes back at
// once, since the goroutine may hang in its next call.
func TestTurnAfterGivingUp(t *testing.T) {
	p, left := NewProgress(), 0
	early, late := p.hand(), p.hand()
	early.take(func() { left++ })
	if left != 0 {
		t.Fatal("the turn went back before")
	}
	p.giveUp()
	late.take(func() { left++ })
	if left != 2 {
		t.Errorf("%d of 2 turns went back", left)
	}
	early.end()
	late.end()
	if left != 2 {
		t.Errorf("turns went back %d times", left)
	}
}
