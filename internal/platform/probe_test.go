// SPDX-License-Identifier: Apache-2.0

package platform_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// firmware derives keys from the TCB, or by answer.
type firmware struct {
	now    sealing.Reading
	asks   int
	answer func(asks int) []byte
	varied []platform.Finding
	err    error // of Vary
}

func (f *firmware) Reading(context.Context) (sealing.Reading, error) { return f.now, nil }

func (f *firmware) DeriveKey(_ context.Context, tcb sealing.TCB) (*secret.Secret, error) {
	f.asks++
	switch {
	case f.answer != nil:
		return platform.TakeKey(f.answer(f.asks))
	case !tcb.AtMost(f.now.TCB):
		return platform.TakeKey(make([]byte, 32)) // as firmware was seen to answer
	}
	sum := sha256.Sum256(tcb[:])
	return platform.TakeKey(sum[:])
}

func (f *firmware) Vary(context.Context, sealing.Reading) ([]platform.Finding, error) {
	return f.varied, f.err
}

// TestProbe: what a probe says of good and bad firmware. What else the keys depend on is
// tried only if there are keys.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(asks int) []byte
		want   map[string]bool
	}{
		{"good", nil, map[string]bool{"derives": true, "stable": true, "depends-on-tcb": true, "not-above-committed": true, "more": true}},
		{"all zero", func(int) []byte { return make([]byte, 32) }, map[string]bool{"derives": false}},
		{"constant", func(int) []byte { return bytes.Repeat([]byte("k"), 32) },
			map[string]bool{"derives": true, "stable": true, "depends-on-tcb": false, "not-above-committed": false, "more": true}},
		{"unstable", func(asks int) []byte { return bytes.Repeat([]byte{byte(asks)}, 32) },
			map[string]bool{"derives": true, "stable": false, "depends-on-tcb": true, "not-above-committed": false, "more": true}},
	} {
		f := &firmware{answer: c.answer, varied: []platform.Finding{{Name: "more", OK: true, Text: "more"}}}
		f.now.TCB = sealing.TCB{3, 0, 0, 0, 0, 0, 20, 209}
		list, err := platform.Probe(t.Context(), f)
		if err != nil || len(list) != len(c.want) {
			t.Errorf("%s: %v, %v", c.name, list, err)
		}
		for _, x := range list {
			if want, known := c.want[x.Name]; !known || x.OK != want || x.Text == "" {
				t.Errorf("%s: %+v", c.name, x)
			}
		}
	}
	f := &firmware{now: sealing.Reading{TCB: sealing.TCB{1}}, err: context.Canceled}
	if _, err := platform.Probe(t.Context(), f); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}
