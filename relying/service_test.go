// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/test/jsonschema"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// clock is the time of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a service over a policy that accepts recipes.
type fixture struct {
	*httptest.Server
	clock *clock

	mu     sync.Mutex
	faults []error // with mu
}

func (f *fixture) fault(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, err)
}

// policies returns a policy that accepts recipes, with more rules.
func policies(t *testing.T, more string) func(context.Context) (*verify.Verifier, *verify.Policy, error) {
	t.Helper()
	policy, err := verify.ParsePolicy([]byte("version = 1\nunlisted_launch = \"allow\"\n" + more))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(policy, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}, CacheEntries: 100})
	if err != nil {
		t.Fatal(err)
	}
	return always(v, policy)
}

func always(v *verify.Verifier, p *verify.Policy) func(context.Context) (*verify.Verifier, *verify.Policy, error) {
	return func(context.Context) (*verify.Verifier, *verify.Policy, error) { return v, p, nil }
}

func serve(t *testing.T, change func(*relying.Config)) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{now: evidencetest.Time}}
	c := relying.Config{
		Policies:   policies(t, ""),
		Challenges: relying.NewMemoryChallenges(100),
		Logs:       relying.NewMemoryLogs(10),
		Now:        f.clock.Now,
		OnError:    f.fault,
	}
	if change != nil {
		change(&c)
	}
	s, err := relying.New(c)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewServer(s)
	t.Cleanup(f.Close)
	return f
}

// post sends a body, and decodes the answer into out.
func (f *fixture) post(t *testing.T, path, body string, out any) int {
	t.Helper()
	r, err := http.Post(f.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if want := map[bool]string{true: "application/json", false: "application/problem+json"}[r.StatusCode == 200]; r.Header.Get("Content-Type") != want || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: %v", path, r.Header)
	}
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := out.(*answer); ok && r.StatusCode != 200 {
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Status != r.StatusCode || !strings.HasPrefix(p.Type, "https://") || r.Header.Get("Retry-After") != map[bool]string{true: fmt.Sprint(p.RetryAfter)}[p.RetryAfter > 0] || (p.Code == api.CodeBusy || p.Code == api.CodeUnavailable) != (p.RetryAfter > 0) || (p.Code == api.CodeMethod) != (r.Header.Get("Allow") != "") {
			t.Errorf("%s: %v, %+v, %v", path, err, p, r.Header)
		}
	}
	schema := map[string]string{"/v1/challenges": "Challenge", "/v1/appraisals": "Answer"}[path]
	if r.StatusCode != 200 {
		schema = "Problem"
	}
	jsonschema.Fits(t, schemas(t), path, b, jsonschema.Schema{Ref: "#/components/schemas/" + schema})
	return r.StatusCode
}

// schemas are those of openapi.json, which each answer of these tests fits.
func schemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	var d struct {
		Components struct{ Schemas map[string]*jsonschema.Schema }
	}
	b, err := os.ReadFile("openapi.json")
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.Components.Schemas
}

// nonce asks for a challenge.
func (f *fixture) nonce(t *testing.T) []byte {
	t.Helper()
	var c relying.Challenge
	if code := f.post(t, "/v1/challenges", "{}", &c); code != 200 || len(c.Nonce) != relying.NonceSize || !c.Expires.After(f.clock.Now()) {
		t.Fatalf("%d, %+v", code, c)
	}
	return c.Nonce
}

// answer is what a client reads of an answer.
type answer struct {
	Appraisal struct {
		Verdict string
		Checks  []struct{ ID, Verdict, Sentence, Found string }
	}
	Token string
	Code  api.Code
}

func (a *answer) failed() (out []string) {
	for _, c := range a.Appraisal.Checks {
		if c.Verdict == "fail" {
			out = append(out, c.ID+": "+c.Sentence)
		}
	}
	return out
}

// request is the body for evidence over a nonce.
func request(t *testing.T, nonce []byte, change func(*evidencetest.Recipe)) string {
	t.Helper()
	r := evidencetest.New()
	r.Statement.Nonce = nonce
	if change != nil {
		change(r)
	}
	b, err := json.Marshal(relying.Request{Nonce: nonce, Evidence: r.Encode(t)})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// appraise asks for a challenge, and sends evidence over it.
func (f *fixture) appraise(t *testing.T, change func(*evidencetest.Recipe)) (int, *answer) {
	t.Helper()
	a := new(answer)
	return f.post(t, "/v1/appraisals", request(t, f.nonce(t), change), a), a
}

// TestOnce: a challenge is answered once, whatever came of it, and not after it expired.
func TestOnce(t *testing.T) {
	f := serve(t, nil)
	nonce := f.nonce(t)
	if bytes.Equal(nonce, f.nonce(t)) {
		t.Fatal("two challenges have one nonce")
	}
	good := request(t, nonce, nil)
	for i, want := range []int{200, 409} {
		var a answer
		if code := f.post(t, "/v1/appraisals", good, &a); code != want || (i == 0) != (a.Appraisal.Verdict == "pass") || (i == 1) != (a.Code == relying.CodeChallenge) {
			t.Errorf("%d: %d, %+v", i, code, a)
		}
	}
	// Refused evidence uses the challenge up.
	nonce = f.nonce(t)
	var a answer
	bad := request(t, nonce, func(r *evidencetest.Recipe) { r.Statement.Nonce = bytes.Repeat([]byte{1}, 32) })
	if code := f.post(t, "/v1/appraisals", bad, &a); code != 200 || a.Appraisal.Verdict != "fail" || !strings.HasPrefix(a.failed()[0], "statement.nonce") {
		t.Errorf("%d, %+v", code, a)
	}
	if code := f.post(t, "/v1/appraisals", request(t, nonce, nil), &a); code != 409 {
		t.Errorf("%d", code)
	}
	// A nonce that the service did not give out, and one that expired.
	if code := f.post(t, "/v1/appraisals", request(t, evidencetest.Nonce, nil), &a); code != 409 {
		t.Errorf("a nonce of the client's: %d", code)
	}
	nonce = f.nonce(t)
	f.clock.pass(relying.DefaultLifetime)
	if code := f.post(t, "/v1/appraisals", request(t, nonce, nil), &a); code != 409 {
		t.Errorf("expired: %d", code)
	}
	if len(f.faults) != 0 {
		t.Error(f.faults)
	}
}

// TestLifetime: a challenge can be answered for as long as the configuration says, and no longer.
func TestLifetime(t *testing.T) {
	f := serve(t, func(c *relying.Config) { c.Lifetime = time.Minute })
	for wait, want := range map[time.Duration]int{59 * time.Second: 200, time.Minute: 409} {
		body := request(t, f.nonce(t), nil)
		f.clock.pass(wait)
		if code := f.post(t, "/v1/appraisals", body, new(answer)); code != want {
			t.Errorf("after %v: %d", wait, code)
		}
	}
}

// TestOnceAtOnce: of many requests with one nonce at the same time, one is appraised.
func TestOnceAtOnce(t *testing.T) {
	f := serve(t, nil)
	body := request(t, f.nonce(t), nil)
	var all sync.WaitGroup
	codes := make(chan int, 16)
	for range cap(codes) {
		all.Go(func() { codes <- f.post(t, "/v1/appraisals", body, new(answer)) })
	}
	all.Wait()
	close(codes)
	accepted := 0
	for code := range codes {
		if code == 200 {
			accepted++
		}
	}
	if accepted != 1 {
		t.Errorf("%d were appraised", accepted)
	}
}

// TestFull: a store that is full gives out no challenge, and drops none that waits.
func TestFull(t *testing.T) {
	f := serve(t, func(c *relying.Config) { c.Challenges = relying.NewMemoryChallenges(2) })
	first, second := f.nonce(t), f.nonce(t)
	memory := relying.NewMemoryChallenges(1)
	for i, want := range []error{nil, relying.ErrFull} {
		if err := memory.Put(t.Context(), [relying.NonceSize]byte{byte(i)}, f.clock.Now(), f.clock.Now().Add(time.Second)); !errors.Is(err, want) {
			t.Errorf("%d: %v", i, err)
		}
	}
	var a answer
	if code := f.post(t, "/v1/challenges", "", &a); code != 503 || a.Code != api.CodeBusy {
		t.Fatalf("%d, %+v", code, a)
	}
	if code := f.post(t, "/v1/appraisals", request(t, second, nil), &a); code != 200 {
		t.Errorf("the second: %d", code)
	}
	for range 10 { // used ones take no place
		if code := f.post(t, "/v1/appraisals", request(t, f.nonce(t), nil), &a); code != 200 {
			t.Errorf("%d", code)
		}
	}
	if code := f.post(t, "/v1/appraisals", request(t, first, nil), &a); code != 200 {
		t.Errorf("the first: %d", code)
	}
	f.nonce(t)
	f.nonce(t)
	f.clock.pass(relying.DefaultLifetime)
	f.nonce(t)
}

// TestBodies: what is not a request is refused with its code, and looks at no challenge.
func TestBodies(t *testing.T) {
	f := serve(t, func(c *relying.Config) { c.AtOnce = 1 })
	good := request(t, f.nonce(t), nil)
	for _, c := range []struct {
		name, path, body string
		status           int
		code             api.Code
	}{
		{"not JSON", "/v1/appraisals", "x", 400, api.CodeMalformed},
		{"empty", "/v1/appraisals", "", 400, api.CodeMalformed},
		{"no members", "/v1/appraisals", "{}", 400, api.CodeMalformed},
		{"short nonce", "/v1/appraisals", `{"nonce":"AAAA","evidence":{}}`, 400, api.CodeMalformed},
		{"no evidence", "/v1/appraisals", `{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`, 400, api.CodeMalformed},
		{"evidence as text", "/v1/appraisals", `{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","evidence":"e30="}`, 400, api.CodeMalformed},
		{"an empty key", "/v1/appraisals", strings.Replace(good, `"nonce"`, `"publicKey":"","nonce"`, 1), 400, api.CodeMalformed},
		{"a long key", "/v1/appraisals", strings.Replace(good, `"nonce"`, `"publicKey":"`+strings.Repeat("AAAA", 4<<10)+`","nonce"`, 1), 400, api.CodeMalformed},
		{"empty user data", "/v1/appraisals", strings.Replace(good, `"nonce"`, `"userData":"","nonce"`, 1), 400, api.CodeMalformed},
		{"long user data", "/v1/appraisals", strings.Replace(good, `"nonce"`, `"userData":"`+strings.Repeat("AAAA", 2<<10)+`","nonce"`, 1), 400, api.CodeMalformed},
		{"unknown member", "/v1/appraisals", strings.Replace(good, `"nonce"`, `"policy":"","nonce"`, 1), 400, api.CodeMalformed},
		{"twice", "/v1/appraisals", strings.Replace(good, `"nonce"`, `"evidence":{},"nonce"`, 1), 400, api.CodeMalformed},
		{"too large", "/v1/appraisals", strings.Repeat(" ", relying.DefaultBody+1), 413, api.CodeTooLarge},
		{"a challenge with a wish", "/v1/challenges", `{"nonce":"AAAA"}`, 400, api.CodeMalformed},
		{"a large challenge", "/v1/challenges", strings.Repeat(" ", 2000), 413, api.CodeTooLarge},
		{"elsewhere", "/v1/else", "{}", 404, api.CodeNoSuchPath},
		{"a path that is not clean", "/v1//challenges", "{}", 404, api.CodeNoSuchPath},
		{"another method", "/v1/jwks", "{}", 405, api.CodeMethod},
	} {
		var a answer
		if code := f.post(t, c.path, c.body, &a); code != c.status || a.Code != c.code {
			t.Errorf("%s: %d, %s", c.name, code, a.Code)
		}
	}
	var a answer
	if code := f.post(t, "/v1/appraisals", good, &a); code != 200 || a.Appraisal.Verdict != "pass" {
		t.Errorf("after all of that: %d, %+v", code, a)
	}
	if len(f.faults) != 0 {
		t.Error(f.faults)
	}
}

// TestBodySize: the service reads as much as its configuration says, and no more.
func TestBodySize(t *testing.T) {
	f := serve(t, func(c *relying.Config) { c.Body = 1000 })
	for size, want := range map[int]int{1000: 400, 1001: 413} {
		if code := f.post(t, "/v1/appraisals", strings.Repeat(" ", size), new(answer)); code != want {
			t.Errorf("%d bytes: %d", size, code)
		}
	}
	f = serve(t, func(c *relying.Config) { c.Body = relying.MaxBody })
	if code := f.post(t, "/v1/appraisals", `{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","evidence":{}}`+strings.Repeat(" ", relying.DefaultBody), new(answer)); code != 409 { // a nonce of the client's
		t.Errorf("more than the usual: %d", code)
	}
}

// TestWhatTheClientExpects: the key that a client sees in use, and the user data that it expects, are
// compared with the statement.
func TestWhatTheClientExpects(t *testing.T) {
	f := serve(t, nil)
	for _, c := range []struct{ key, data, failed string }{
		{"a public key", "invoice 7", ""},
		{"another key", "invoice 7", "statement.public-key"},
		{"a public key", "invoice 8", "statement.user-data"},
	} {
		nonce := f.nonce(t)
		r := evidencetest.New()
		r.Statement.Nonce = nonce
		b, err := json.Marshal(relying.Request{Nonce: nonce, Evidence: r.Encode(t), PublicKey: []byte(c.key), UserData: []byte(c.data)})
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		code := f.post(t, "/v1/appraisals", string(b), &a)
		failed := strings.Join(a.failed(), " ")
		if code != 200 || (a.Appraisal.Verdict == "pass") != (c.failed == "") || !strings.HasPrefix(failed, c.failed) {
			t.Errorf("%+v: %d, %s, %s", c, code, a.Appraisal.Verdict, failed)
		}
	}
}

// TestAtOnce: more requests than the service appraises at once are told to come again.
func TestAtOnce(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := serve(t, func(c *relying.Config) {
		c.AtOnce = 1
		c.Expect = func(context.Context, keys.Name, []byte, *verify.Expect) error {
			entered <- struct{}{}
			<-leave
			return nil
		}
	})
	one, two := request(t, f.nonce(t), nil), request(t, f.nonce(t), nil)
	done := make(chan int)
	go func() { done <- f.post(t, "/v1/appraisals", one, new(answer)) }()
	<-entered
	var a answer
	if code := f.post(t, "/v1/appraisals", two, &a); code != 503 || a.Code != api.CodeBusy {
		t.Errorf("%d, %s", code, a.Code)
	}
	close(leave)
	if code := <-done; code != 200 {
		t.Errorf("the first: %d", code)
	}
}

// TestSlowBody: a client that does not send its body keeps a place only for a time.
func TestSlowBody(t *testing.T) {
	f := serve(t, func(c *relying.Config) { c.AtOnce, c.BodyTime = 1, 500*time.Millisecond })
	slow, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(slow, "POST /v1/appraisals HTTP/1.1\r\nHost: service\r\nContent-Length: 1000\r\n\r\n{")
	r, err := http.ReadResponse(bufio.NewReader(slow), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var a answer
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil || r.StatusCode != 408 || a.Code != api.CodeBodyTimeout || !r.Close {
		t.Errorf("%v, %d, %s, close: %v", err, r.StatusCode, a.Code, r.Close)
	}
	if code, a := f.appraise(t, nil); code != 200 {
		t.Errorf("afterwards: %d, %s", code, a.Code)
	}
	// A body that came in time does not end the request when that time is over.
	f = serve(t, func(c *relying.Config) {
		c.BodyTime = 500 * time.Millisecond
		c.Expect = func(ctx context.Context, _ keys.Name, _ []byte, _ *verify.Expect) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
				return nil
			}
		}
	})
	if code, a := f.appraise(t, nil); code != 200 {
		t.Errorf("slow to appraise: %d, %s, %v", code, a.Code, f.faults)
	}
}

// TestFaults: a fault of the service is told to its owner, and the client learns nothing of it. That goes
// for problems of other services too, which its functions may return.
func TestFaults(t *testing.T) {
	down := fmt.Errorf("password of the database: %w", &api.Problem{Code: api.CodeNotPermitted, Detail: "password"})
	for name, change := range map[string]func(*relying.Config){
		"challenges": func(c *relying.Config) { c.Challenges = broken{err: down} },
		"logs":       func(c *relying.Config) { c.Logs = broken{err: down} },
		"advance":    func(c *relying.Config) { c.Logs = broken{late: down} },
		"no state":   func(c *relying.Config) { c.Logs = broken{known: &relying.History{}} },
		"bad state":  func(c *relying.Config) { c.Logs = broken{known: &relying.History{State: &verify.LogState{}}} },
		"full logs":  func(c *relying.Config) { c.Logs = relying.NewMemoryLogs(0) },
		"policies": func(c *relying.Config) {
			c.Policies = func(context.Context) (*verify.Verifier, *verify.Policy, error) { return nil, nil, down }
		},
		"expect": func(c *relying.Config) {
			c.Expect = func(context.Context, keys.Name, []byte, *verify.Expect) error { return down }
		},
		"misuse": func(c *relying.Config) {
			c.Expect = func(_ context.Context, _ keys.Name, _ []byte, e *verify.Expect) error {
				e.Nonce, e.UnsafeAcceptReplay = nil, true
				return nil
			}
		},
		"keys": func(c *relying.Config) {
			c.Keys, c.Token = func() []*ear.Key { return nil }, ear.Options{Audience: "me", Build: "test 1"}
		},
	} {
		f := serve(t, change)
		body := request(t, evidencetest.Nonce, nil)
		if name != "challenges" {
			body = request(t, f.nonce(t), nil)
		}
		var a map[string]any
		if code := f.post(t, "/v1/appraisals", body, &a); code != 500 || a["code"] != "internal" || strings.Contains(fmt.Sprint(a), "password") {
			t.Errorf("%s: %d, %v", name, code, a)
		}
		if len(f.faults) != 1 {
			t.Errorf("%s: %v", name, f.faults)
		}
	}
}

// TestNew: what a service cannot do is said when it is made.
func TestNew(t *testing.T) {
	for name, change := range map[string]func(*relying.Config){
		"no policies":   func(c *relying.Config) { c.Policies = nil },
		"no store":      func(c *relying.Config) { c.Challenges = nil },
		"long":          func(c *relying.Config) { c.Lifetime = relying.MaxLifetime + 1 },
		"short":         func(c *relying.Config) { c.Lifetime = relying.MinLifetime - 1 },
		"large":         func(c *relying.Config) { c.Body = relying.MaxBody + 1 },
		"negative":      func(c *relying.Config) { c.Body = -1 },
		"none at once":  func(c *relying.Config) { c.AtOnce = -1 },
		"no time":       func(c *relying.Config) { c.BodyTime = -1 },
		"no audience":   func(c *relying.Config) { c.Token.Audience = "" },
		"no build":      func(c *relying.Config) { c.Token.Build = "" },
		"refused":       func(c *relying.Config) { c.Token.Refused = true },
		"another nonce": func(c *relying.Config) { c.Token.Nonce = evidencetest.Nonce },
		"":              func(*relying.Config) {},
	} {
		c := relying.Config{
			Policies: policies(t, ""), Challenges: relying.NewMemoryChallenges(1), Lifetime: relying.MaxLifetime, Body: relying.MaxBody,
			Keys: func() []*ear.Key { return nil }, Token: ear.Options{Audience: "me", Build: "test 1"},
		}
		change(&c)
		if _, err := relying.New(c); (err == nil) != (name == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// broken is a store that fails.
type broken struct {
	err, late error            // of the first steps, of the last
	known     *relying.History // of each machine
}

func (b broken) Put(context.Context, [relying.NonceSize]byte, time.Time, time.Time) error {
	return b.err
}
func (b broken) Take(context.Context, [relying.NonceSize]byte, time.Time) (time.Time, bool, error) {
	return time.Time{}, true, b.err
}
func (b broken) Known(context.Context, keys.Name) (*relying.History, error) { return b.known, b.err }
func (b broken) Advance(context.Context, keys.Name, *relying.History, *relying.History) error {
	return b.late
}

func (f *fixture) get(t *testing.T, path string) int {
	r, err := http.Get(f.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

// TestDescribesItself: the service has the document about itself, and answers HEAD as GET.
func TestDescribesItself(t *testing.T) {
	f := serve(t, nil)
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(f.URL + "/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, want) || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v, %d bytes, %v", err, len(got), r.Header)
	}
	if r, err = http.Head(f.URL + "/v1/openapi.json"); err != nil || r.StatusCode != 200 {
		t.Errorf("%v, %v", err, r)
	}
}

// TestExpect: what the service knows of a machine becomes part of what is expected.
func TestExpect(t *testing.T) {
	var asked keys.Name
	f := serve(t, func(c *relying.Config) {
		c.Expect = func(_ context.Context, ak keys.Name, _ []byte, e *verify.Expect) error {
			asked, e.Audience = ak, "me"
			return nil
		}
	})
	if code, a := f.appraise(t, nil); code != 200 || !strings.HasPrefix(a.failed()[0], "statement.audience") || len(asked) == 0 {
		t.Errorf("%d, %v, %s", code, a.failed(), asked)
	}
	if code, a := f.appraise(t, func(r *evidencetest.Recipe) { r.Statement.Audience = "me" }); code != 200 || a.Appraisal.Verdict != "pass" {
		t.Errorf("%d, %v", code, a.failed())
	}
}
