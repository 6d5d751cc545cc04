// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// schedule knows which apps are to be measured again, and when.
type schedule struct {
	mu   sync.Mutex // guards due
	due  map[string]due
	wake chan struct{} // something became due earlier
}

type due struct {
	first time.Time // change since the last measurement
	at    time.Time
	hold  bool // at is not brought forward: the log cannot take it earlier
}

func newSchedule() *schedule {
	return &schedule{due: make(map[string]due), wake: make(chan struct{}, 1)}
}

// touch notes a change: measure when quiet has passed without another, at the
// latest maxDebounce after the first.
func (s *schedule) touch(name string, now time.Time, quiet time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.due[name]
	if d.hold {
		return
	}
	if !ok || d.first.IsZero() {
		d.first = now
	}
	d.at = now.Add(quiet)
	if latest := d.first.Add(max(maxDebounce, quiet)); d.at.After(latest) {
		d.at = latest
	}
	s.set(name, d)
}

// retry measures at a later time, unless a change makes it earlier.
func (s *schedule) retry(name string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.due[name]; !ok || d.at.After(at) {
		s.set(name, due{at: at})
	}
}

// hold measures at a later time and not before.
func (s *schedule) hold(name string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(name, due{at: at, hold: true})
}

// release ends a hold, and reports whether there was one: the log has taken the app meanwhile.
func (s *schedule) release(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.due[name].hold {
		return false
	}
	delete(s.due, name)
	return true
}

func (s *schedule) set(name string, d due) {
	s.due[name] = d
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take removes and returns what is due, and how long until something else is.
func (s *schedule) take(now time.Time) (names []string, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = time.Hour
	for name, d := range s.due {
		if left := d.at.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		names = append(names, name)
		delete(s.due, name)
	}
	slices.Sort(names)
	return names, wait
}

// sleep waits until d has passed or something became due earlier.
func (s *schedule) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.wake:
	case <-ctx.Done():
	}
}

// throttle bounds how many records one source may cause. The log has a limit, and an attacker
// who can write to one file of an app could otherwise reach it. Its owner guards it.
type throttle struct {
	limit *rate.Limiter
	told  bool // that records are being held back, since the last that was not
}

func newThrottle(every time.Duration, burst int) *throttle {
	return &throttle{limit: rate.NewLimiter(rate.Every(every), burst)}
}

// wait returns how long until the next record is allowed; 0 means now.
func (t *throttle) wait(now time.Time) time.Duration {
	missing := 1 - t.limit.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(time.Duration(missing/float64(t.limit.Limit())*float64(time.Second)), time.Millisecond)
}

// spend counts a record that was made.
func (t *throttle) spend(now time.Time) {
	t.limit.AllowN(now, 1)
	t.told = false
}

// maxAttempts is how often an app is read if its files change meanwhile.
const maxAttempts = 4

// Times. Those that [Config] names are its defaults.
const (
	defaultDebounce      = 200 * time.Millisecond // quiet after the last change of a file
	maxDebounce          = 2 * time.Second        // after the first change, quiet or not
	defaultRescan        = 10 * time.Minute       // while inotify works
	fallbackRescan       = 30 * time.Second       // while it does not
	defaultRateEvery     = 10 * time.Minute       // for one more record of an app after its burst
	defaultRateBurst     = 30                     // records of an app at once
	defaultUnaskedBytes  = 1 << 30                // of one app in a minute
	defaultAnswerTimeout = 30 * time.Second       // for the file system to answer one call
	defaultTimeout       = 10 * time.Minute       // for the files of an app to be read
	recordTimeout        = time.Minute            // for the log and the TPM to take one event
	retryAfterFailure    = time.Minute            // after they did not
	retryAfterChanging   = 5 * time.Second        // after a file kept changing
	eventPatience        = 2 * time.Second        // until an event of a change has arrived for sure
	renewedPatience      = time.Minute            // until events that were lost are known to be
)
