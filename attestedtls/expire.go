// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"time"
	"weak"
)

// expiryLook is how often the clock is looked at while a policy that expires is in force: a timer does
// not see that the clock was set, nor the time that a machine slept.
const expiryLook = 30 * time.Second

// over reports whether a policy has expired.
func (r *ruling) over(now time.Time) bool {
	return r.ended || !r.ends.IsZero() && !now.Before(r.ends)
}

// watch has open connections judged again once a policy expires, unless another one is in force by
// then. A verifier that does not judge them needs no timer: each new connection looks at the clock.
func (v *Verifier) watch(r *ruling) {
	if r.ends.IsZero() || !v.options.JudgeOpen {
		return
	}
	again := weak.Make(v) // a verifier that is not used any more needs not wait
	time.AfterFunc(max(0, min(r.ends.Sub(v.options.Now()), expiryLook)), func() {
		if v := again.Value(); v != nil {
			v.expire(r)
		}
	})
}

// expire ends a policy that has expired, if it is still in force, and looks again later if it has not.
// A connection that was accepted just before, and is not noted yet, finds another policy in force then.
func (v *Verifier) expire(r *ruling) {
	over := *r
	over.ended = r.over(v.options.Now())
	v.mu.Lock()
	current := v.now == r
	if current && over.ended {
		v.now = &over
	}
	v.mu.Unlock()
	switch {
	case !current:
	case over.ended:
		v.apply()
	default:
		v.watch(r)
	}
}
