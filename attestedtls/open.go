// SPDX-License-Identifier: Apache-2.0

package attestedtls

import "context"

// standing is what an open connection was judged under.
type standing struct {
	ruling  *ruling
	judging bool // a goroutine is at it, and goes on until the policy in force was applied
}

// keep notes an open connection that was judged under r.
func (v *Verifier) keep(c *Conn, r *ruling) {
	if !v.options.JudgeOpen {
		return
	}
	v.mu.Lock()
	v.open[c] = &standing{ruling: r}
	v.mu.Unlock()
	if c.closed.Load() { // before it was noted
		v.drop(c)
		return
	}
	v.again(c) // the policy may have been replaced meanwhile
}

// drop forgets a connection.
func (v *Verifier) drop(c *Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.open, c)
}

// again judges an open connection until it was judged under the policy in force, and closes it if
// that refuses it. No lock is held meanwhile: a hook may replace the policy. If another call is at
// it, that one goes on.
func (v *Verifier) again(c *Conn) (stays bool) {
	for {
		v.mu.Lock()
		r, s := v.now, v.open[c]
		if s == nil || s.judging || s.ruling == r {
			v.mu.Unlock()
			return true
		}
		s.judging = true
		v.mu.Unlock()
		seen := c.verdict.Load()
		judged := v.judge(r, seen.Document, seen.expect, seen.bound)
		judged.Continued, judged.Age = seen.Continued, seen.Age
		err := c.end.decide(context.Background(), judged)
		v.mu.Lock()
		s.judging, s.ruling = false, r
		c.verdict.Store(v.kept(judged))
		v.mu.Unlock()
		if err != nil {
			c.closeFor(err)
			return false
		}
	}
}

// apply judges all open connections under the policy in force, and returns how many it closed.
func (v *Verifier) apply() (closed int) {
	v.mu.Lock()
	old := make([]*Conn, 0, len(v.open))
	for c := range v.open {
		old = append(old, c)
	}
	v.mu.Unlock()
	v.forgetOld()
	for _, c := range old {
		if !v.again(c) {
			closed++
		}
	}
	return closed
}

// kept returns what a connection keeps of a verdict: the document only if it is needed again.
func (v *Verifier) kept(judged *Verdict) *Verdict {
	if v.options.JudgeOpen {
		return judged
	}
	out := *judged
	out.Document = nil
	if out.Refusal != nil { // a hook let it pass
		refusal := *out.Refusal
		refusal.Verdict, out.Refusal = &out, &refusal
	}
	return &out
}
