// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"time"

	"golang.org/x/time/rate"
)

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
