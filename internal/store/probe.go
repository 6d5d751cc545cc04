// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Finding is the result of one test of a platform.
type Finding struct {
	Name string // "derives", "stable", "depends-on-tcb", "not-above-committed", and those of [Prober]
	OK   bool
	Text string
}

// Probe tests the key derivation of a platform, for the doctor's report: that it works,
// gives the same key twice and another key under another TCB. If the platform is a
// [Prober], Probe also tests on what else the key depends. It wipes the keys and returns
// none. Requests are scarce on some hosts: this makes up to sixteen.
func Probe(ctx context.Context, p Platform) ([]Finding, error) {
	now, err := p.Reading(ctx)
	if err != nil {
		return nil, fmt.Errorf("probe the key derivation: %w", err)
	}
	out, err := probe(ctx, p, now)
	if prober, ok := p.(Prober); ok && err == nil && out[0].OK {
		var more []Finding
		if more, err = vary(ctx, prober, now.VMPL, now.TCB); err == nil {
			out = append(out, more...)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("probe the key derivation: %w", err)
	}
	return out, nil
}

// probe makes the requests that sealing itself makes.
func probe(ctx context.Context, p Platform, now sealing.Reading) ([]Finding, error) {
	key := func(t sealing.TCB) (*secret.Secret, error) {
		b, err := derive(ctx, p, t)
		if err != nil {
			return nil, err
		}
		return secret.Take(b)
	}
	first, err := key(now.TCB)
	if err != nil {
		return []Finding{{Name: "derives", Text: err.Error()}}, nil
	}
	defer first.Wipe()
	out := []Finding{{Name: "derives", OK: true, Text: fmt.Sprintf("a key under TCB %s", now.TCB)}}
	again, err := key(now.TCB)
	if err != nil {
		return append(out, Finding{Name: "stable", Text: err.Error()}), nil
	}
	defer again.Wipe()
	f := Finding{Name: "stable", OK: first.Equal(again), Text: "the same request twice gives the same key"}
	if !f.OK {
		f.Text = "the same request twice gives two keys: what is sealed would not open again"
	}
	out = append(out, f)
	if lower, ok := below(now.TCB); ok {
		other, err := key(lower)
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
		return out, nil
	}
	given, err := key(above)
	f = Finding{Name: "not-above-committed", OK: err != nil, Text: fmt.Sprintf("TCB %s, above the committed one, is refused", above)}
	if err == nil {
		f.Text = fmt.Sprintf("TCB %s, above the committed one, gives a key", above)
	}
	given.Wipe()
	return append(out, f), nil
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
