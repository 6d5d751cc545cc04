// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/sealing"
)

// Finding is the result of one test of a platform.
type Finding struct {
	Name string // "derives", "stable", "depends-on-tcb", "not-above-committed", and those of [Keys.Vary]
	OK   bool
	Text string
}

// Probe tests the key derivation of a platform, for a report to an administrator: that it
// works, gives the same key twice and another one under another TCB, and what else the keys
// depend on. Keys are wiped, and none is returned.
func Probe(ctx context.Context, keys Keys) ([]Finding, error) {
	now, err := keys.Reading(ctx)
	if err != nil {
		return nil, fmt.Errorf("probe the key derivation: %w", err)
	}
	out := probe(ctx, keys, now)
	if !out[0].OK {
		return out, nil
	}
	more, err := keys.Vary(ctx, now)
	if err != nil {
		return nil, fmt.Errorf("probe the key derivation: %w", err)
	}
	return append(out, more...), nil
}

// probe makes the requests that sealing itself makes.
func probe(ctx context.Context, keys Keys, now sealing.Reading) []Finding {
	first, err := keys.DeriveKey(ctx, now.TCB)
	if err != nil {
		return []Finding{{Name: "derives", Text: err.Error()}}
	}
	defer first.Wipe()
	out := []Finding{{Name: "derives", OK: true, Text: fmt.Sprintf("a key under TCB %s", now.TCB)}}
	again, err := keys.DeriveKey(ctx, now.TCB)
	if err != nil {
		return append(out, Finding{Name: "stable", Text: err.Error()})
	}
	defer again.Wipe()
	f := Finding{Name: "stable", OK: first.Equal(again), Text: "the same request twice gives the same key"}
	if !f.OK {
		f.Text = "the same request twice gives two keys: what is sealed would not open again"
	}
	out = append(out, f)
	if lower, ok := below(now.TCB); ok {
		other, err := keys.DeriveKey(ctx, lower)
		f := Finding{Name: "depends-on-tcb", Text: fmt.Sprintf("TCB %s gives another key", lower)}
		if err != nil {
			f.Text = err.Error()
		} else {
			if f.OK = !first.Equal(other); !f.OK {
				f.Text = fmt.Sprintf("TCB %s gives the same key: older firmware could derive it", lower)
			}
			other.Wipe()
		}
		out = append(out, f)
	}
	above := now.TCB
	for i := range above {
		if above[i] > 0 && above[i] < 0xff {
			above[i]++
			break
		}
	}
	if above == now.TCB {
		return out
	}
	given, err := keys.DeriveKey(ctx, above)
	f = Finding{Name: "not-above-committed", OK: err != nil, Text: fmt.Sprintf("TCB %s, above the committed one, is refused", above)}
	if err == nil {
		f.Text = fmt.Sprintf("TCB %s, above the committed one, gives a key", above)
		given.Wipe()
	}
	return append(out, f)
}

// below returns t with one component lowered by one, and false if that leaves only zeros.
func below(t sealing.TCB) (sealing.TCB, bool) {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i] > 0 {
			t[i]--
			return t, t != sealing.TCB{}
		}
	}
	return t, false
}
