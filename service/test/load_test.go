// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
	"github.com/cvm-agentd/agentd/verify"
)

// asked names the environment variable with the number of appraisals of TestLoad.
const asked = "AGENTD_TEST_APPRAISALS"

const (
	loadClients = 200
	loadRounds  = 5
)

// load is 200 clients of two workers on one PostgreSQL.
type load struct {
	*bed
	workers []*worker

	mu       sync.Mutex
	accepted map[string]int  // answers by nonce; with mu
	others   map[string]int  // other answers by their code; with mu
	took     []time.Duration // from a request to its accepted answer, in rounds that nothing disturbs; with mu
}

// visit is a request for an appraisal that a client is about to send.
type visit struct {
	client      int
	nonce, body []byte
}

// prepare gets a challenge and makes evidence, from the other worker if one is gone, and again while the
// database is.
func (l *load) prepare(client int) (*visit, error) {
	var err error
	end := time.Now().Add(servers.Patience)
	for i := client; time.Now().Before(end); i++ {
		var a answer
		var code int
		code, err = ask(l.clientOf(client), "POST", l.workers[i%2].url+"/v1/challenges", nil, &a)
		switch {
		case err == nil && code == 200:
			body := evidence(l.t, a.Nonce, func(r *evidencetest.Recipe) { r.AK = evidencetest.ECCKey(byte(client + 1)) })
			return &visit{client, a.Nonce, body}, nil
		case err == nil && (code != 503 || a.Code != "unavailable"):
			return nil, fmt.Errorf("a challenge: %d, %+v", code, a)
		case err == nil:
			err = fmt.Errorf("%d, %s", code, a.Code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("no challenge after %v: %w", servers.Patience, err)
}

// send sends a request to workers at the same time, and reports whether one accepted it.
func (l *load) send(v *visit, to []*worker, timed bool) bool {
	var all sync.WaitGroup
	var passed atomic.Bool
	for _, w := range to {
		all.Go(func() {
			var a answer
			begin := time.Now()
			code, err := ask(l.clientOf(v.client), "POST", w.url+"/v1/appraisals", v.body, &a)
			took := time.Since(begin)
			l.mu.Lock()
			defer l.mu.Unlock()
			switch {
			case err != nil:
				l.others["no answer"]++
			case code == 200 && a.Appraisal.Verdict == "pass" && a.Token != "":
				passed.Store(true)
				l.accepted[string(v.nonce)]++
				if timed {
					l.took = append(l.took, took)
				}
			case code == 409 && a.Code == "challenge-unknown" && len(to) > 1, code == 503 && (a.Code == "busy" || a.Code == "unavailable"):
				l.others[a.Code]++
			default:
				l.t.Errorf("%d, %+v", code, a)
			}
		})
	}
	all.Wait()
	return passed.Load()
}

// round has each client make a number of visits, each until it is accepted, and returns what they sent
// first. The challenges are there before. With middle each request goes to both workers at once, and
// middle runs when a quarter of them is accepted.
func (l *load) round(visits int, middle func()) (all []*visit, took time.Duration) {
	l.t.Helper()
	all = make([]*visit, loadClients*visits)
	each := func(f func(client, i int) error) {
		var wait sync.WaitGroup
		for c := range loadClients {
			wait.Go(func() {
				for n := range visits {
					if err := f(c, c*visits+n); err != nil {
						l.t.Error(err)
						return
					}
				}
			})
		}
		wait.Wait()
	}
	each(func(c, i int) (err error) {
		all[i], err = l.prepare(c)
		return err
	})
	if l.t.Failed() {
		l.t.FailNow()
	}
	var done atomic.Int64
	begin := time.Now()
	each(func(c, i int) error {
		to := l.workers
		if middle == nil {
			to = to[c%2 : c%2+1]
		}
		v := all[i]
		for end := time.Now().Add(servers.Patience); !l.send(v, to, middle == nil); {
			if time.Now().After(end) {
				return fmt.Errorf("client %d is not answered after %v", c, servers.Patience)
			}
			var err error
			if v, err = l.prepare(c); err != nil {
				return err
			}
		}
		if done.Add(1) == int64(len(all)/4) && middle != nil {
			middle() // at once, while the others wait for their answers
		}
		return nil
	})
	return all, time.Since(begin)
}

// library appraises the evidence of requests with package verify, warm, on all processors.
func (l *load) library(v *verify.Verifier, all []*visit) time.Duration {
	l.t.Helper()
	var next atomic.Int64
	var wait sync.WaitGroup
	begin := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(all)) {
					return
				}
				var q struct{ Evidence json.RawMessage }
				if err := json.Unmarshal(all[i].body, &q); err != nil {
					l.t.Error(err)
					return
				}
				if a, err := v.Appraise(q.Evidence, verify.Expect{Nonce: all[i].nonce}, time.Now()); err != nil || a.Verdict != verify.Pass {
					l.t.Errorf("%+v, %v", a, err)
					return
				}
			}
		})
	}
	wait.Wait()
	return time.Since(begin)
}

// used returns the time of processors that a worker used, and the most memory that it had, in bytes.
func (w *worker) used() (cpu time.Duration, peak int64) {
	w.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ") // fields 3 and on
	for _, f := range strings.Fields(after)[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		cpu += time.Duration(n) * 10 * time.Millisecond // clock ticks of Linux
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kb, is := strings.CutPrefix(line, "VmHWM:"); is {
			if _, err := fmt.Sscan(kb, &peak); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return cpu, peak << 10
}

// TestLoad: 200 clients of two workers on one PostgreSQL. One worker is killed in the middle and started
// again, later the database ends as in a crash and is started again. No challenge is accepted twice, each
// accepted answer has one record, and the chain is whole. It prints rates, in rounds that nothing
// disturbs, beside those of package verify with the same evidence.
func TestLoad(t *testing.T) {
	appraisals := 1000
	if s := os.Getenv(asked); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < loadClients*loadRounds {
			t.Fatalf("%s=%s: want a number, at least %d", asked, s, loadClients*loadRounds)
		}
		appraisals = n
	}
	visits := appraisals / loadRounds / loadClients
	l := &load{bed: newBed(t, true, "fsync=on"), accepted: map[string]int{}, others: map[string]int{}}
	l.limits += "challenge_seconds = 3600\n"
	l.limits = strings.Replace(l.limits, "at_once = 64", "at_once = 200", 1)
	l.workers = []*worker{l.start("one"), l.start("two")}
	if code, out := l.workers[0].put(l.alice(), "default", easy, "https://vault.example", nil); code != 200 {
		t.Fatalf("%d, %v", code, out)
	}
	policy, err := verify.ParsePolicy([]byte(easy))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := verify.New(policy, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}, CacheEntries: 512})
	if err != nil {
		t.Fatal(err)
	}
	var service, library, cpu time.Duration
	timed := 0
	for n := range loadRounds {
		switch n {
		case 1:
			l.round(visits, func() { l.workers[1].Kill() })
			l.workers[1].again()
		case 3:
			l.round(visits, l.databaseEnds)
		default:
			before := l.cpu()
			all, took := l.round(visits, nil)
			service, cpu, timed = service+took, cpu+l.cpu()-before, timed+len(all)
			library += l.library(verifier, all)
		}
	}
	if l.others["no answer"] == 0 || l.others["unavailable"] == 0 || l.others["challenge-unknown"] == 0 {
		t.Errorf("nothing was disturbed: %v", l.others)
	}
	l.check(visits * loadRounds * loadClients)
	slices.Sort(l.took)
	rate := func(d time.Duration) float64 { return float64(timed) / d.Seconds() }
	t.Logf("%d appraisals of %d clients; other answers: %v", len(l.accepted), loadClients, l.others)
	t.Logf("service %.0f/s (p50 %v, p99 %v), library %.0f/s: ratio %.2f, with clients and database on the same %d processors",
		rate(service), l.took[len(l.took)/2].Round(time.Millisecond), l.took[len(l.took)*99/100].Round(time.Millisecond), rate(library), float64(library)/float64(service), runtime.GOMAXPROCS(0))
	for _, w := range l.workers {
		_, peak := w.used()
		t.Logf("worker %s: at most %d MiB", w.name, peak>>20)
	}
	each, alone := cpu/time.Duration(timed), library*time.Duration(runtime.GOMAXPROCS(0))/time.Duration(timed)
	t.Logf("processor time of an appraisal: %v in the workers, with its challenge, and %v in the library: ratio %.2f, as if clients and database were elsewhere",
		each.Round(time.Microsecond), alone.Round(time.Microsecond), float64(alone)/float64(each))
}

func (l *load) cpu() (all time.Duration) {
	for _, w := range l.workers {
		cpu, _ := w.used()
		all += cpu
	}
	return all
}

// databaseEnds ends the database as a crash does, sees that a client is told, and starts it again.
func (l *load) databaseEnds() {
	l.postgres.Signal(l.t, syscall.SIGQUIT)
	l.postgres.Wait(l.t)
	for _, w := range l.workers {
		var a answer
		if code, err := ask(l.clientOf(0), "POST", w.url+"/v1/challenges", nil, &a); err != nil || code != 503 || a.Code != "unavailable" {
			l.t.Errorf("without the database: %d, %v, %+v", code, err, a)
		}
	}
	begin := time.Now()
	l.postgres.Run(l.t)
	back := time.Now()
	eventually(l.t, func() error {
		for _, w := range l.workers {
			if code, err := ask(l.clientOf(0), "GET", w.url+"/readyz", nil, nil); err != nil || code != 200 {
				return fmt.Errorf("%s: %d, %v", w.name, code, err)
			}
		}
		return nil
	})
	l.t.Logf("the database was back after %v, and the workers %v later", back.Sub(begin).Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
}

// check compares what clients were answered with the records.
func (l *load) check(want int) {
	l.t.Helper()
	if len(l.accepted) != want {
		l.t.Errorf("%d accepted, want %d", len(l.accepted), want)
	}
	recorded := map[string]int{}
	for _, e := range l.workers[0].records() {
		if e.Kind == "appraisal" && e.Verdict == "pass" {
			recorded[string(e.Nonce)]++
		}
	}
	for nonce, n := range l.accepted {
		if n != 1 || recorded[nonce] != 1 {
			l.t.Errorf("challenge %x was accepted %d times, and has %d records", nonce, n, recorded[nonce])
		}
	}
	unanswered := 0
	for nonce, n := range recorded {
		if n != 1 {
			l.t.Errorf("%x has %d records", nonce, n)
		}
		if l.accepted[nonce] == 0 {
			unanswered++
		}
	}
	if lost := l.others["no answer"] + l.others["unavailable"]; unanswered > lost {
		l.t.Errorf("%d records have no answer, and %d answers were not received", unanswered, lost)
	}
	l.t.Logf("%d records, of which %d have no answer", len(recorded), unanswered)
	if code, out := l.workers[0].run("check-records"); code != 0 || !strings.Contains(out, "the chain is whole") {
		l.t.Errorf("%d: %s", code, out)
	}
}
