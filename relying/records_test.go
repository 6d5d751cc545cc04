// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// recorder keeps records over the logs of a service. Before it keeps one, it returns fail if that is not
// nil.
type recorder struct {
	logs relying.Logs

	mu   sync.Mutex
	fail error
	all  []*relying.Record
}

func (c *recorder) Append(ctx context.Context, r *relying.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	if r.Next != nil {
		if err := c.logs.Advance(ctx, r.AK, r.Known, r.Next); err != nil {
			return err
		}
	}
	c.all = append(c.all, r)
	return nil
}

func (c *recorder) failing(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

func recorded(t *testing.T) (*fixture, *recorder) {
	t.Helper()
	c := &recorder{}
	key, err := ear.NewKey(evidencetest.Key('t'))
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(o *relying.Config) {
		c.logs, o.Records = o.Logs, c
		o.Keys, o.Token = func() []*ear.Key { return []*ear.Key{key} }, ear.Options{Audience: "a", Build: "test"}
	}), c
}

// TestEachAppraisalHasARecord: what was accepted, what was refused, and what came of a boot that ended.
func TestEachAppraisalHasARecord(t *testing.T) {
	f, c := recorded(t)
	for _, change := range []func(*evidencetest.Recipe){nil, longer, nil, boot(2, nil), longer} {
		f.clock.pass(time.Second)
		f.appraise(t, change)
	}
	var got []string
	for _, r := range c.all {
		if len(r.AK) == 0 || len(r.Nonce) != relying.NonceSize || !r.Time.Equal(r.Appraisal.Time) {
			t.Errorf("%+v", r)
		}
		got = append(got, fmt.Sprint(r.Appraisal.Verdict, " ", r.Code, " ", r.Next != nil))
	}
	if want := []string{"pass  true", "pass  true", "fail  false", "pass  true", "pass boot-ended false"}; !slices.Equal(got, want) {
		t.Errorf("the records are %q, want %q", got, want)
	}
}

// TestNoAnswerWithoutRecord: a store that fails gives neither a verdict nor a token, and nothing is known
// afterwards of evidence that it did not record.
func TestNoAnswerWithoutRecord(t *testing.T) {
	f, c := recorded(t)
	for _, x := range []struct {
		err    error
		status int
		code   api.Code
	}{
		{errors.New("a fault"), 500, api.CodeInternal},
		{fmt.Errorf("no connection: %w", relying.ErrUnavailable), 503, api.CodeUnavailable},
		{relying.ErrMoved, 409, relying.CodeLogMoved},
	} {
		c.failing(x.err)
		for _, change := range []func(*evidencetest.Recipe){nil, func(r *evidencetest.Recipe) { r.Report.Body = func(b []byte) { b[evidencetest.AtVMPL] = 2 } }} {
			if status, a := f.appraise(t, change); status != x.status || api.Code(a.Code) != x.code || a.Token != "" || a.Appraisal.Verdict != "" {
				t.Errorf("%v: %d, %+v", x.err, status, a)
			}
		}
	}
	f.mu.Lock()
	f.faults = nil
	f.mu.Unlock()
	c.failing(nil)
	if status, a := f.appraise(t, nil); status != 200 || a.Token == "" || len(c.all) != 1 || c.all[0].Known != nil {
		t.Errorf("afterwards: %d, %+v, %d records", status, a, len(c.all))
	}
}

// TestRecordsNeedLogs: records without known logs would keep half of what they promise.
func TestRecordsNeedLogs(t *testing.T) {
	if _, err := relying.New(relying.Config{Policies: policies(t, ""), Challenges: relying.NewMemoryChallenges(1), Records: &recorder{}}); err == nil {
		t.Error("made")
	}
}
