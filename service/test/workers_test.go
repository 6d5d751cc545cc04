// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

// entry is an entry of the chain, as docs/verifier-service.md describes it.
type entry struct {
	Sequence                            uint64
	Previous, Kind, Verdict, Code, Type string
	Policy, AK, Action, By              string
	Nonce                               []byte
	Certificate, Identifier             string
	NotAfter                            time.Time
}

// records reads the whole chain from outside, and checks that it is one.
func (w *worker) records() (all []entry) {
	w.t.Helper()
	alice, previous := w.alice(), ""
	for {
		var page struct {
			Records []struct{ Hash, Entry string }
		}
		if code, err := ask(alice, "GET", fmt.Sprintf("%s/admin/v1/records?after=%d", w.admin, len(all)), nil, &page); err != nil || code != 200 {
			w.t.Fatalf("%d, %v", code, err)
		}
		if len(page.Records) == 0 {
			break
		}
		for _, r := range page.Records {
			var e entry
			if err := json.Unmarshal([]byte(r.Entry), &e); err != nil {
				w.t.Fatal(err)
			}
			sum := sha256.Sum256([]byte("agentd/record/1\x00" + r.Entry))
			if e.Sequence != uint64(len(all)+1) || e.Previous != previous || hex.EncodeToString(sum[:]) != r.Hash {
				w.t.Fatalf("after %d records comes %s with the hash %s", len(all), r.Entry, r.Hash)
			}
			all, previous = append(all, e), r.Hash
		}
	}
	var head struct {
		Sequence int
		Hash     string
	}
	if _, err := ask(alice, "GET", w.admin+"/admin/v1/head", nil, &head); err != nil || head.Sequence != len(all) || head.Hash != previous {
		w.t.Errorf("%v: the head is %+v, after %d records comes %s", err, head, len(all), previous)
	}
	return all
}

// TestTwoWorkers: 200 clients of two workers on one PostgreSQL. Each sends its evidence to both at once,
// and one of them is killed in the middle. No challenge is accepted twice, each accepted answer has a
// record, and the chain is whole.
func TestTwoWorkers(t *testing.T) {
	b := newBed(t, true)
	workers := []*worker{b.start("one"), b.start("two")}
	if code, out := workers[0].put(b.alice(), "default", easy, "https://vault.example", nil); code != 200 {
		t.Fatalf("%d, %v", code, out)
	}
	const clients, visits = 200, 3
	var answered atomic.Int64
	var mu sync.Mutex
	accepted, problems := map[string]int{}, map[string]int{} // with mu
	killed := sync.OnceFunc(func() {
		workers[1].Process.Signal(t, syscall.SIGKILL)
	})
	visit := func(c int) {
		var challenge answer
		for i := 0; challenge.Nonce == nil; i++ { // the other one if this one is gone
			if code, err := ask(b.clientOf(c), "POST", workers[(c+i)%2].url+"/v1/challenges", nil, &challenge); err == nil && code != 200 || i > 100 {
				t.Errorf("a challenge: %d, %v, %+v", code, err, challenge)
				return
			}
		}
		body := evidence(t, challenge.Nonce, func(r *evidencetest.Recipe) { r.AK = evidencetest.ECCKey(byte(c + 1)) })
		var both sync.WaitGroup
		for _, w := range workers {
			both.Go(func() {
				var a answer
				code, err := ask(b.clientOf(c), "POST", w.url+"/v1/appraisals", body, &a)
				for end := time.Now().Add(servers.Patience); err == nil && a.Code == "busy" && time.Now().Before(end); { // the challenge waits still
					time.Sleep(50 * time.Millisecond)
					a = answer{}
					code, err = ask(b.clientOf(c), "POST", w.url+"/v1/appraisals", body, &a)
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					problems["no answer"]++
				case code == 200 && a.Appraisal.Verdict == "pass" && a.Token != "":
					accepted[string(challenge.Nonce)]++
				case code == 409 || code == 503:
					problems[a.Code]++
				default:
					t.Errorf("%d, %+v", code, a)
				}
			})
		}
		both.Wait()
		if answered.Add(1) == clients*visits/2 {
			killed()
		}
	}
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for range visits {
				visit(c)
			}
		})
	}
	all.Wait()
	for nonce, n := range accepted {
		if n != 1 {
			t.Errorf("challenge %x was accepted %d times", nonce, n)
		}
	}
	t.Logf("%d accepted, others: %v", len(accepted), problems)
	if len(accepted) < clients*visits/2 || problems["challenge-unknown"] == 0 || problems["no answer"] == 0 {
		t.Errorf("%d of %d visits were accepted: %v", len(accepted), clients*visits, problems)
	}
	recorded := map[string]int{}
	for _, e := range workers[0].records() {
		if e.Kind == "appraisal" && e.Verdict == "pass" {
			recorded[string(e.Nonce)]++
		}
	}
	for nonce := range accepted {
		if recorded[nonce] != 1 {
			t.Errorf("the accepted answer to %x has %d records", nonce, recorded[nonce])
		}
	}
	for nonce, n := range recorded {
		if n != 1 {
			t.Errorf("%x has %d records", nonce, n)
		}
	}
	if code, out := workers[0].run("check-records"); code != 0 || !strings.Contains(out, "the chain is whole") {
		t.Errorf("%d: %s", code, out)
	}
	workers[1].again()
	if code, a := workers[1].appraise("", nil); code != 200 || a.Appraisal.Verdict != "pass" {
		t.Errorf("the worker that was killed, again: %d, %+v", code, a)
	}
}

func longer(r *evidencetest.Recipe) {
	r.Events = append(r.Events, evidencetest.App("billing", "billing.service", "billing", "billing 1"))
}

func secondBoot(r *evidencetest.Recipe) {
	r.Report.Body = func(b []byte) { copy(b[evidencetest.AtReportID:], bytes.Repeat([]byte{2}, 32)) }
	r.Batch.Reset += 2
	r.Events[0] = evidencetest.Agent(pcr.EventAgent, "1.0.2", r.AgentKey)
}

// onEach runs a test on both databases.
func onEach(t *testing.T, f func(*testing.T, *bed)) {
	t.Run("PostgreSQL", func(t *testing.T) { f(t, newBed(t, true)) })
	t.Run("SQLite", func(t *testing.T) { f(t, newBed(t, false)) })
}

// TestLogTurnedBack: what one worker accepted of a log, the other one knows, also after all were killed.
func TestLogTurnedBack(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		workers := []*worker{b.start("one"), b.start("two")}
		if code, out := workers[0].put(b.alice(), "default", easy, "", nil); code != 200 {
			t.Fatalf("%d, %v", code, out)
		}
		for i, c := range []struct {
			name   string
			change func(*evidencetest.Recipe)
			code   int
			failed bool
		}{
			{"first", nil, 200, false},
			{"longer", longer, 200, false},
			{"turned back", nil, 200, true},
			{"as it was", longer, 200, false},
			{"another boot", secondBoot, 200, false},
			{"the first boot again", longer, 409, false},
		} {
			code, a := workers[i%2].appraise("", c.change)
			if code != c.code || c.failed != slices.Contains(a.failed(), "log.continuation") || (code == 409) != (a.Code == "boot-ended") || a.Token != "" {
				t.Errorf("%s: %d, %s, %v", c.name, code, a.Code, a.failed())
			}
			if c.name == "longer" {
				for _, w := range workers {
					w.Kill()
					w.again()
				}
			}
		}
		last := workers[0].records()
		if e := last[len(last)-1]; e.Code != "boot-ended" || e.AK == "" {
			t.Errorf("the record of two machines with one key: %+v", e)
		}
	})
}

// TestDatabaseGone: without the database clients get a clear error, a load balancer is told, and the keys
// of tokens stay. When it is back, everything works without a hand. A worker may start while it is away.
func TestDatabaseGone(t *testing.T) {
	b := newBed(t, true)
	w := b.start("one")
	if code, out := w.put(b.alice(), "default", easy, "https://vault.example", nil); code != 200 {
		t.Fatalf("%d, %v", code, out)
	}
	body := evidence(t, w.challenge(""), nil)
	b.postgres.Signal(t, syscall.SIGQUIT)
	b.postgres.Wait(t)
	late := b.start("late")
	for _, x := range []*worker{w, late} {
		for path, want := range map[string]int{"/v1/challenges": 503, "/v1/appraisals": 503} {
			var a answer
			if code, err := ask(x.client, "POST", x.url+path, body, &a); err != nil || code != want || a.Code != "unavailable" {
				t.Errorf("%s of %s: %d, %v, %+v", path, x.name, code, err, a)
			}
		}
		eventually(t, func() error {
			if code, err := ask(x.client, "GET", x.url+"/readyz", nil, nil); err != nil || code != 503 {
				return fmt.Errorf("ready: %d, %v", code, err)
			}
			return nil
		})
		if code, err := ask(x.client, "GET", x.url+"/healthz", nil, nil); err != nil || code != 200 {
			t.Errorf("healthy: %d, %v", code, err)
		}
		var keys struct{ Keys []any }
		if code, err := ask(x.client, "GET", x.url+"/v1/jwks", nil, &keys); err != nil || code != 200 || len(keys.Keys) != 1 {
			t.Errorf("keys: %d, %v, %+v", code, err, keys)
		}
	}
	b.postgres.Run(t)
	for _, x := range []*worker{w, late} {
		eventually(t, func() error {
			if code, err := ask(x.client, "GET", x.url+"/readyz", nil, nil); err != nil || code != 200 {
				return fmt.Errorf("ready: %d, %v", code, err)
			}
			return nil
		})
	}
	// The challenge was not used by what failed.
	var a answer
	if code, err := ask(late.client, "POST", late.url+"/v1/appraisals", body, &a); err != nil || code != 200 || a.Appraisal.Verdict != "pass" {
		t.Errorf("%d, %v, %+v", code, err, a)
	}
	if code, a := w.appraise("", nil); code != 200 || a.Token == "" {
		t.Errorf("%d, %+v", code, a)
	}
}
