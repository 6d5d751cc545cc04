// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

var errLogStart = fmt.Errorf("record 9 of 3: %w", attest.ErrLogStart)

const goodNonce = "AAAAAAAAAAAAAAAAAAAAAA=="

// TestPermissions checks the table: every row is answered where it should be, and those
// of the admin socket nowhere else (case 87).
func TestPermissions(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	for _, route := range routes {
		target := exampleTarget(route)
		for path, socket := range map[string]Socket{r.client: Client, r.admin: Admin} {
			status, b, p := ask(t, as(path, 1000), route.Method, target, route.Example)
			if !route.serves(socket) {
				if p == nil || p.Code != api.CodeNotPermitted || status != 403 {
					t.Errorf("%s %s on the %s socket: %d %s", route.Method, target, socket, status, b)
				}
			} else if status != 200 {
				t.Errorf("%s %s on the %s socket: %d %s", route.Method, target, socket, status, b)
			}
		}
	}
	// Having the socket is not enough for another uid.
	for _, uid := range []uint32{0, 1001} {
		_, b, p := ask(t, as(r.admin, uid), "GET", api.CallStatus.Path, "")
		if p == nil || p.Code != api.CodeNotPermitted {
			t.Errorf("uid %d on the admin socket: %s", uid, b)
		}
	}
}

func TestPaths(t *testing.T) {
	r := run(t, &fake{records: []byte{}}, Limits{}, nil)
	c := as(r.admin, 1000)
	for _, x := range []struct {
		method, target string
		code           api.Code
		where          string
	}{
		{"GET", "/", api.CodeNoSuchPath, ""},
		{"GET", "/v1", api.CodeNoSuchPath, ""},
		{"GET", "/v1/self/", api.CodeNoSuchPath, ""},
		{"GET", "//v1/self", api.CodeNoSuchPath, ""},
		{"GET", "/v2/self", api.CodeNoSuchPath, ""},
		{"GET", "/V1/self", api.CodeNoSuchPath, ""},
		{"POST", "/v1/apps//measure", api.CodeNoSuchPath, ""},
		{"POST", "/v1/apps/a/b/measure", api.CodeNoSuchPath, ""},
		{"POST", "/v1/apps/a%2Fb/measure", api.CodeNoSuchPath, ""},
		{"POST", "/v1/apps/../measure", "", ""}, // an app called "..": Apps does not know it
		{"POST", api.CallSelf.Path, api.CodeMethod, ""},
		{"HEAD", api.CallSelf.Path, "", ""},
		{"DELETE", api.CallApps.Path, api.CodeMethod, ""},
		{"GET", api.CallEvidence.Path, api.CodeMethod, ""},
		{"GET", api.CallSelf.Path + "?x=1", api.CodeUnknownParameter, `"x"`},
		{"GET", api.CallLog.Path + "?start=1&start=2", api.CodeUnknownParameter, `"start"`},
		{"GET", api.CallLog.Path + "?Start=1", api.CodeUnknownParameter, `"Start"`},
		{"GET", api.CallLog.Path + "?start=-1", api.CodeInvalidValue, "start"},
		{"GET", api.CallLog.Path + "?start=99999999999999999999", api.CodeInvalidValue, "start"},
		{"GET", api.CallLog.Path + "?format=xml", api.CodeInvalidValue, "format"},
		{"GET", api.CallLog.Path + "?%zz", api.CodeUnknownParameter, ""},
		{"GET", api.CallLog.Path + "?start=9", api.CodeStartBeyondLog, ""},
		{"GET", api.CallLog.Path + "?start=3&format=cel-json", "", ""},
	} {
		if x.method == "HEAD" {
			answer, err := c.Head("http://agentd" + x.target)
			if err != nil || answer.StatusCode != 405 || answer.Header.Get("Allow") != "GET" {
				t.Errorf("HEAD: %v %v", answer, err)
			}
			continue
		}
		status, b, p := ask(t, c, x.method, x.target, "")
		if x.code == "" {
			if status != 200 {
				t.Errorf("%s %s: %d %s", x.method, x.target, status, b)
			}
			continue
		}
		if p == nil || p.Code != x.code || p.Where != x.where {
			t.Errorf("%s %s: %d %s; want %s at %q", x.method, x.target, status, b, x.code, x.where)
		}
	}
}

func TestDefaults(t *testing.T) {
	requests := make(chan api.EvidenceRequest, 2)
	f := &fake{attest: func(_ context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		requests <- r
		return []byte("{}"), nil
	}}
	r := run(t, f, Limits{}, nil)
	if status, b, _ := ask(t, as(r.client, 1000), "POST", api.CallEvidence.Path, `{"nonce":"`+goodNonce+`"}`); status != 200 {
		t.Fatal(string(b))
	}
	if got := <-requests; got.Freshness != evidence.Fresh || got.Log != api.LogWhole {
		t.Errorf("got %+v", got)
	}
	status, b, _ := ask(t, as(r.client, 1000), "POST", api.CallEvidence.Path,
		`{"nonce":"`+base64Of(make([]byte, 64))+`","audience":"`+strings.Repeat("é", 128)+`","userData":"`+base64Of(make([]byte, 4096))+
			`","publicKey":"`+base64Of(make([]byte, 8192))+`","freshness":"anchored","log":"from","logStart":9007199254740991}`)
	if status != 200 {
		t.Fatalf("the largest request: %d %s", status, b)
	}
	if got := <-requests; got.LogStart != 1<<53-1 {
		t.Errorf("the largest request: %+v", got)
	}
}

// What a caller puts in counts against its share: it comes back in the answer, and longer.
func TestEvidenceBudget(t *testing.T) {
	s := New(Config{Log: &fake{records: make([]byte, 1000)}})
	for body, want := range map[string]int64{
		`{"nonce":"` + goodNonce + `","log":"none"}`: small,
		`{"nonce":"` + goodNonce + `"}`:              small + 4*1000,
		`{"nonce":"` + goodNonce + `","log":"none","userData":"` + base64Of(make([]byte, 4096)) + `","publicKey":"` + base64Of(make([]byte, 8192)) + `"}`: 50000,
	} {
		var r api.EvidenceRequest
		if err := decode([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		j, err := s.evidence(&call{}, r)
		if err != nil || j.bytes < want {
			t.Errorf("%.60s: %d bytes %v, want at least %d", body, j.bytes, err, want)
		}
	}
}

// case 41 and 42, this side of the batcher: every caller gets the answer to its own.
func TestAnswersAreOnesOwn(t *testing.T) {
	f := &fake{attest: func(_ context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		runtime.Gosched()
		return answerFor(r, c), nil
	}}
	r := run(t, f, Limits{}, nil)
	var wg sync.WaitGroup
	for uid := uint32(1000); uid < 1010; uid++ {
		c := as(r.client, uid)
		for n := range 10 {
			wg.Go(func() {
				for round := range 20 {
					id := int(uid)*1000 + n*20 + round
					_, b, _, err := try(c, "POST", api.CallEvidence.Path, nonceBody(id))
					if want := fmt.Sprintf(`{"nonce":"%x","uid":%d}`, fmt.Appendf(nil, "%016d", id), uid); err != nil || string(b) != want {
						t.Errorf("got %s %v, want %s", b, err, want)
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestSelf(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	for uid, want := range map[uint32]string{1000: `"app":"billing"`, 1001: "no app is declared for unit billing.service and uid 1001"} {
		_, b, _ := ask(t, as(r.client, uid), "GET", api.CallSelf.Path, "")
		if !bytes.Contains(b, []byte(want)) || bytes.Contains(b, []byte(`"keys":{"yes":true`)) != (uid == 1000) {
			t.Errorf("uid %d: %s", uid, b)
		}
	}
}

// case 1: a connection whose process ended later is refused at its next request.
func TestPeerGone(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	c := as(r.client, 1000)
	if status, b, _ := ask(t, c, "GET", api.CallSelf.Path, ""); status != 200 {
		t.Fatal(string(b))
	}
	ended.Store(true)
	defer ended.Store(false)
	if _, b, p := ask(t, c, "GET", api.CallSelf.Path, ""); p == nil || p.Code != api.CodePeerGone {
		t.Errorf("got %s", b)
	}
}

// A caller that cannot be identified is told so, and nothing else.
func TestPeerUnknown(t *testing.T) {
	for err, code := range map[error]api.Code{caller.ErrGone: api.CodePeerGone, caller.ErrUnknown: api.CodePeerUnknown} {
		r := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = fakeIdentifier{err: err} })
		for range 20 {
			if _, b, p := ask(t, as(r.client, 1000), "POST", api.CallEvidence.Path, nonceBody(1)); p == nil || p.Code != code {
				t.Errorf("got %s, want %s", b, code)
			}
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	r := run(t, &fake{attest: func(context.Context, api.EvidenceRequest, evidence.Caller) ([]byte, error) { panic("fault") }}, Limits{}, nil)
	if _, b, p := ask(t, as(r.client, 1000), "POST", api.CallEvidence.Path, nonceBody(1)); p == nil || p.Code != api.CodeInternal || bytes.Contains(b, []byte("fault")) {
		t.Errorf("got %s", b)
	}
	if status, b, _ := ask(t, as(r.client, 1000), "GET", api.CallSelf.Path, ""); status != 200 {
		t.Error(string(b))
	}
}

func TestTimeouts(t *testing.T) {
	wait := func(ctx context.Context, _ api.EvidenceRequest, _ evidence.Caller) ([]byte, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("wait for a quote: %w", ctx.Err())
	}
	r := run(t, &fake{attest: wait}, Limits{Patience: 0.001}, nil)
	if _, b, p := ask(t, as(r.client, 1000), "POST", api.CallEvidence.Path, nonceBody(1)); p == nil || p.Code != api.CodeTimeout {
		t.Errorf("got %s", b)
	}

	r = run(t, &fake{}, Limits{BodyTimeout: 20 * time.Millisecond}, nil)
	request, _ := http.NewRequest("POST", "http://agentd"+api.CallEvidence.Path, stuck{t.Context()})
	request.ContentLength = 10
	answer, err := as(r.client, 1000).Do(request)
	if err != nil || answer.StatusCode != http.StatusRequestTimeout {
		t.Errorf("body that never comes: %v %v", answer, err)
	}

	// The body's time ends the reading of the body and not the work after it.
	slow := func(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(150 * time.Millisecond):
			return answerFor(r, c), nil
		}
	}
	r = run(t, &fake{attest: slow}, Limits{BodyTimeout: 20 * time.Millisecond, HeaderTimeout: 20 * time.Millisecond}, nil)
	eventually(t, "a request comes in time", func() bool { // on a busy machine not every one does
		status, b, _, err := try(as(r.client, 1000), "POST", api.CallEvidence.Path, nonceBody(1))
		if r.fake.calls.Load() == 0 {
			return false
		}
		if err != nil || status != 200 {
			t.Errorf("slow work: %d %s %v", status, b, err)
		}
		return true
	})
}

// A caller that goes away ends the work that was for it alone.
func TestCallerGoesAway(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	r := run(t, &fake{attest: func(ctx context.Context, _ api.EvidenceRequest, _ evidence.Caller) ([]byte, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}}, Limits{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	request, _ := http.NewRequestWithContext(ctx, "POST", "http://agentd"+api.CallEvidence.Path, strings.NewReader(nonceBody(1)))
	if _, err := as(r.client, 1000).Do(request); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the work went on")
	}
}

// curl -d must just work, whatever content type it claims.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	r := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = fakeIdentifier{} })
	out, err := exec.Command(curl, "-sS", "--noproxy", "*", "--unix-socket", r.client, "http://localhost"+api.CallEvidence.Path, "-d", nonceBody(7)).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`"uid":1000`)) {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.Command(curl, "-sS", "--noproxy", "*", "--fail-with-body", "--unix-socket", r.client, "http://localhost"+api.CallEvidence.Path, "-d", "{}").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte(`"code":"invalid-value"`)) {
		t.Errorf("%v: %s", err, out)
	}
}
