// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// TestAppraise: what holds for clients over HTTP holds for a program that asks in Go: the nonce is
// compared, a log is not turned back, and no boot comes after another that followed it.
func TestAppraise(t *testing.T) {
	clock := &clock{now: evidencetest.Time}
	c := relying.Config{Policies: policies(t, ""), Challenges: relying.NewMemoryChallenges(1), Logs: relying.NewMemoryLogs(10), Now: clock.Now, Body: 1 << 20}
	s, err := relying.New(c)
	if err != nil {
		t.Fatal(err)
	}
	nonce := bytes.Repeat([]byte{7}, relying.NonceSize)
	appraise := func(change func(*evidencetest.Recipe)) (*verify.Appraisal, error) {
		clock.pass(time.Second)
		r := evidencetest.New()
		r.Statement.Nonce = nonce
		if change != nil {
			change(r)
		}
		return s.Appraise(t.Context(), nonce, clock.Now(), r.Encode(t))
	}
	for _, x := range []struct {
		name    string
		change  func(*evidencetest.Recipe)
		verdict verify.Verdict
		code    api.Code
	}{
		{"first", longer, verify.Pass, ""},
		{"another nonce", func(r *evidencetest.Recipe) {
			longer(r)
			r.Statement.Nonce = bytes.Repeat([]byte{8}, relying.NonceSize)
		}, verify.Fail, ""},
		{"turned back", nil, verify.Fail, ""},
		{"another boot", boot(2, nil), verify.Pass, ""},
		{"the first boot again", longer, "", relying.CodeBootEnded},
	} {
		a, err := appraise(x.change)
		switch {
		case x.code != "" && !errors.Is(err, x.code), x.code == "" && (err != nil || a.Verdict != x.verdict):
			t.Errorf("%s: %+v, %v", x.name, a, err)
		}
	}
	if _, err := s.Appraise(t.Context(), nonce[:16], clock.Now(), nil); err == nil {
		t.Error("a short nonce was taken")
	}
	if _, err := s.Appraise(t.Context(), nonce, clock.Now(), make([]byte, c.Body+1)); !errors.Is(err, api.CodeTooLarge) {
		t.Errorf("a large body: %v", err)
	}
	c.Policies = func(context.Context) (*verify.Verifier, *verify.Policy, error) {
		return nil, nil, errors.New("no policy")
	}
	if s, err = relying.New(c); err != nil {
		t.Fatal(err)
	}
	if a, err := appraise(longer); err == nil || a != nil {
		t.Errorf("without a policy: %v, %v", a, err)
	}
	c.Policies = ended
	if s, err = relying.New(c); err != nil {
		t.Fatal(err)
	}
	if a, err := appraise(longer); !errors.Is(err, api.CodeNoSuchPath) || a != nil {
		t.Errorf("with a policy that ended: %v, %v", a, err)
	}
}

// ended says that no policy is in force any more.
func ended(context.Context) (*verify.Verifier, *verify.Policy, error) {
	return nil, nil, fmt.Errorf("it expired: %w", relying.ErrNoPolicy)
}

// TestPolicyEnded: evidence that comes when its policy has ended gets neither a verdict nor a token, and
// the service has no fault.
func TestPolicyEnded(t *testing.T) {
	f := serve(t, func(c *relying.Config) { c.Policies = ended })
	if code, a := f.appraise(t, nil); code != 404 || a.Code != api.CodeNoSuchPath || a.Appraisal.Verdict != "" || a.Token != "" {
		t.Errorf("%d, %+v", code, a)
	}
	if len(f.faults) > 0 {
		t.Error(f.faults)
	}
}
