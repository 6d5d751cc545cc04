// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
)

// Records of containers of one app, and of those of no app together. An engine that starts a
// container again and again does so at longer and longer intervals, up to a minute.
const (
	burst = 30
	every = time.Minute
)

// maxApps is how many limiters are kept. Apps are declared, and there are fewer.
const maxApps = 1024

// limits bound what containers do to the log.
type limits struct {
	mu    *sync.Mutex // guards all below
	apps  map[string]*rate.Limiter
	most  int64
	spent int64  // bytes of records of containers
	next  uint64 // number of the first record of before that was not counted
	now   func() time.Time
}

func newLimits(most int64) limits {
	return limits{mu: new(sync.Mutex), apps: make(map[string]*rate.Limiter), most: most, now: time.Now}
}

// enter counts the start of a container of an app, nil for none.
func (l *limits) enter(app *Declared) error {
	name := ""
	if app != nil {
		name = app.Name
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.apps) >= maxApps {
		clear(l.apps)
	}
	if l.apps[name] == nil {
		l.apps[name] = rate.NewLimiter(rate.Every(every), burst)
	}
	now := l.now()
	r := l.apps[name].ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		what := "containers of no app"
		if app != nil {
			what = "containers of app " + name
		}
		return problem.After(problem.New(api.CodeThrottled, fmt.Sprintf("%s start too often: %d at once and one a minute are recorded", what, burst)), wait)
	}
	return nil
}

// bytes counts the bytes of a record that is about to be made.
func (l *limits) bytes(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most > 0 && l.spent+int64(n) > l.most {
		return problem.New(api.CodeLogFull, fmt.Sprintf("records of containers have %d bytes, and may have %d: the rest of the log is for other records", l.spent, l.most))
	}
	l.spent += int64(n)
	return nil
}

// restore counts the bytes of a record of before, once.
func (l *limits) restore(number uint64, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number >= l.next {
		l.spent += int64(n)
		l.next = number + 1
	}
}

// unused gives back the bytes of a record that was not made.
func (l *limits) unused(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent -= int64(n)
}
