// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/relying"
)

func longer(r *evidencetest.Recipe) {
	r.Events = append(r.Events, evidencetest.App("billing", "billing.service", "billing", "billing 1"))
}

func boot(id byte, change func(*evidencetest.Recipe)) func(*evidencetest.Recipe) {
	return func(r *evidencetest.Recipe) {
		r.Report.Body = func(b []byte) { copy(b[evidencetest.AtReportID:], bytes.Repeat([]byte{id}, 32)) }
		r.Batch.Reset += uint32(id)
		r.Events[0] = evidencetest.Agent(pcr.EventAgent, fmt.Sprintf("1.0.%d", id), r.AgentKey)
		if change != nil {
			change(r)
		}
	}
}

// TestLogIsNotTurnedBack: what was accepted of a log is known at the next visit. A log that lost a
// record since is refused, and so is a boot that another one followed.
func TestLogIsNotTurnedBack(t *testing.T) {
	f := serve(t, nil)
	for i, c := range []struct {
		name   string
		change func(*evidencetest.Recipe)
		code   int
		failed string
	}{
		{"first", nil, 200, ""},
		{"longer", longer, 200, ""},
		{"turned back", nil, 200, "log.continuation"},
		{"as it was", longer, 200, ""},
		{"another boot", boot(2, nil), 200, ""},
		{"the first boot again", longer, 409, ""},
		{"the second goes on", boot(2, longer), 200, ""},
		{"the second turned back", boot(2, nil), 200, "log.continuation"},
		{"another machine", func(r *evidencetest.Recipe) { r.AK = evidencetest.ECCKey('o') }, 200, ""},
	} {
		f.clock.pass(time.Second)
		code, a := f.appraise(t, c.change)
		if code != c.code || (c.failed == "") == (a.Appraisal.Verdict == "fail") || c.failed != "" && !strings.Contains(strings.Join(a.failed(), " "), c.failed) {
			t.Errorf("%d, %s: %d, %s, %v", i, c.name, code, a.Code, a.failed())
		}
		if c.code == 409 && a.Code != relying.CodeBootEnded {
			t.Errorf("%s: %s", c.name, a.Code)
		}
	}
}

// TestMoved: an appraisal that rests on what was known before another one is not an answer.
func TestMoved(t *testing.T) {
	logs := relying.NewMemoryLogs(1)
	ctx, ak := t.Context(), keys.Name("ak")
	one, two := &relying.History{}, &relying.History{}
	if err := logs.Advance(ctx, ak, nil, one); err != nil {
		t.Fatal(err)
	}
	for _, known := range []*relying.History{nil, two} {
		if err := logs.Advance(ctx, ak, known, two); !errors.Is(err, relying.ErrMoved) {
			t.Errorf("%v", err)
		}
	}
	if err := logs.Advance(ctx, keys.Name("other"), nil, one); err == nil {
		t.Error("more machines than the store keeps")
	}
	f := serve(t, func(c *relying.Config) { c.Logs = moving{} })
	if code, a := f.appraise(t, nil); code != 409 || a.Code != relying.CodeLogMoved {
		t.Errorf("%d, %s", code, a.Code)
	}
}

// TestManyAskOneMachine: many clients verify one machine at the same time, and each is answered, though
// only one of them is the first to tell of its log.
func TestManyAskOneMachine(t *testing.T) {
	var first sync.WaitGroup
	first.Add(8)
	f := serve(t, func(c *relying.Config) { c.Logs = &together{MemoryLogs: relying.NewMemoryLogs(1), first: &first} })
	var bodies []string
	for range 8 {
		bodies = append(bodies, request(t, f.nonce(t), nil))
	}
	var all sync.WaitGroup
	for _, body := range bodies {
		all.Go(func() {
			var a answer
			if code := f.post(t, "/v1/appraisals", body, &a); code != 200 || a.Appraisal.Verdict != "pass" {
				t.Errorf("%d, %s, %v", code, a.Code, a.failed())
			}
		})
	}
	all.Wait()
}

// together is a store whose first readers all read before one of them goes on.
type together struct {
	*relying.MemoryLogs
	first *sync.WaitGroup
	read  atomic.Int32
}

func (s *together) Known(ctx context.Context, ak keys.Name) (*relying.History, error) {
	h, err := s.MemoryLogs.Known(ctx, ak)
	if s.read.Add(1) <= 8 {
		s.first.Done()
		s.first.Wait()
	}
	return h, err
}

// TestAskedBefore: evidence that was asked for before later evidence was accepted may be the older of
// the two. It is not a sign of a log that was turned back, or of a clone, and it is not accepted.
func TestAskedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		first, last func(*evidencetest.Recipe)
		again       int // code of such evidence when it is asked for once more
		failed      string
	}{
		"shorter":       {nil, longer, 200, "log.continuation"},
		"an ended boot": {boot(1, nil), boot(2, nil), 409, ""},
		"and it is bad": {func(r *evidencetest.Recipe) { r.Statement.Nonce = evidencetest.Nonce }, longer, 200, "log.continuation"},
		"another way on": {func(r *evidencetest.Recipe) {
			r.Events = append(r.Events, evidencetest.App("shop", "shop.service", "shop", "shop 1"))
		}, longer, 200, "log.continuation"},
	} {
		f := serve(t, nil)
		if name == "an ended boot" {
			f.appraise(t, c.first)
		}
		late := f.nonce(t)
		f.clock.pass(time.Second)
		if code, a := f.appraise(t, c.last); code != 200 || a.Appraisal.Verdict != "pass" {
			t.Fatalf("%s: %d, %v", name, code, a.failed())
		}
		var a answer
		if code := f.post(t, "/v1/appraisals", request(t, late, c.first), &a); code != 409 || a.Code != relying.CodeLogMoved {
			t.Errorf("%s: %d, %s, %v", name, code, a.Code, a.failed())
		}
		f.clock.pass(time.Second)
		code, again := f.appraise(t, c.first)
		if code != c.again || again.Appraisal.Verdict == "pass" || code == 200 && !strings.Contains(strings.Join(again.failed(), " "), c.failed) || code == 409 && again.Code != relying.CodeBootEnded {
			t.Errorf("%s, again: %d, %s, %v", name, code, again.Code, again.failed())
		}
	}
}

// TestWithoutLog: a policy may let the log be left out. Such evidence changes nothing that is known of
// the log, and does not pass for a boot that ended.
func TestWithoutLog(t *testing.T) {
	f := serve(t, func(c *relying.Config) { c.Policies = policies(t, "log = \"optional\"\n") })
	none := func(r *evidencetest.Recipe) { r.NoLog = true }
	for i, c := range []struct {
		change func(*evidencetest.Recipe)
		code   int
		pass   bool
	}{
		{boot(1, none), 200, true}, {boot(1, longer), 200, true}, {boot(1, none), 200, true}, {boot(1, nil), 200, false},
		{boot(2, none), 200, true}, {boot(2, nil), 200, true}, {boot(1, none), 409, false}, {boot(2, none), 200, true},
	} {
		f.clock.pass(time.Second)
		if code, a := f.appraise(t, c.change); code != c.code || (a.Appraisal.Verdict == "pass") != c.pass {
			t.Errorf("%d: %d, %s, %v", i, code, a.Code, a.failed())
		}
	}
}

// moving is a store in which another process is always first.
type moving struct{}

func (moving) Known(context.Context, keys.Name) (*relying.History, error) { return nil, nil }
func (moving) Advance(context.Context, keys.Name, *relying.History, *relying.History) error {
	return relying.ErrMoved
}
