// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Growth from the first rounds of load to the last ones that the soak allows, each as the least
// of several rounds: what else the machine does makes some of them slow. The very first round
// makes what is made once, and does not count.
const (
	rounds         = 8
	several        = 3
	memoryFactor   = 1.25
	memorySlack    = 8 << 20 // bytes
	countFactor    = 1.1     // of descriptors, goroutines and threads
	countSlack     = 16
	latencyFactor  = 4.0
	latencySlack   = 20 * time.Millisecond
	costFactor     = 1.5              // of processor time for an answer
	shortestSoak   = 12 * time.Second // for each run of all tests
	soakVariable   = "SOAK"           // time of the whole load, as 20m
	tailPercentile = 99
)

// A load is one kind of client, and the refusals that it may get.
type load struct {
	name string
	party
	refused string // regular expression of codes; empty: none
}

// loads are the clients of the soak: those who work, make mistakes, hang up, hoard, and change
// files.
func (m *machine) loads(total time.Duration) []load {
	each := func(name string, p party, refused string) load {
		p = m.asVictim(p)
		p.Connections = max(p.Connections, 2)
		p.Pause = 5 * time.Millisecond
		return load{name, p, refused}
	}
	as := func(p party, who party) party {
		p.UID, p.Group, p.Unit, p.Socket = who.UID, who.Group, who.Unit, who.Socket
		return p
	}
	crowd := m.attackers(1, party{})[0]
	hoard := each("hoard", as(party{Hoard: true}, crowd), "")
	hoard.Connections = 200
	strangers := each("strangers", party{Method: "GET", Path: "/v1/status", New: true}, "")
	strangers.party = as(strangers.party, crowd)
	hoard.party = as(hoard.party, crowd)
	hang := each("hang up", party{Method: "POST", Path: "/v1/seal", Body: seal.Body, Hang: 3 * time.Millisecond}, "")
	hang.party = as(hang.party, m.asOther(party{}))
	out := []load{
		each("fresh", party{Method: "POST", Path: "/v1/evidence", Body: freshBody, Connections: 8}, ""),
		each("anchored", party{Method: "POST", Path: "/v1/evidence", Body: anchoredBody, Connections: 4}, ""),
		each("derive", party{Method: "POST", Path: "/v1/keys/derive", Body: `{"label":"disk","length":32}`}, ""),
		each("seal", seal, ""),
		each("unseal", party{Method: "POST", Path: "/v1/unseal", Body: `{"name":"token"}`}, "404 .*"),
		each("log", party{Method: "GET", Path: "/v1/log"}, ""),
		each("mistakes", party{Method: "POST", Path: "/v1/evidence", Body: `{"nonce":1}`}, "400 .*"),
		each("nowhere", party{Method: "GET", Path: "/v1/nowhere", New: true}, "404 .*"),
		strangers, hang, hoard,
	}
	measure := m.measure()
	measure.For, measure.Requests = 0, 0
	changed := m.measureChanged()
	// An app has 30 records, and then one every ten minutes. Those of these four last until the end.
	changed.For, changed.Requests, changed.Pause = 0, 0, max(500*time.Millisecond, total/100)
	return append(out, load{"measure", measure, ""}, load{"measure changed", changed, "429 .*|503 .*"},
		load{"touch", party{Connections: 1, Touch: changed.Replace[:1], Pause: 50 * time.Millisecond}, ""})
}

// A footprint is what the agent uses while nothing is asked of it.
type footprint struct {
	memory                           uint64 // bytes resident
	descriptors, threads, goroutines int
}

func (f footprint) String() string {
	return fmt.Sprintf("%.1f MB, %d descriptors, %d threads, %d goroutines", float64(f.memory)/1e6, f.descriptors, f.threads, f.goroutines)
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// footprint waits until what the clients used was given back, as far as it is.
func (m *machine) footprint(least footprint) (f footprint) {
	m.t.Helper()
	admin := m.Admin()
	defer admin.Close()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		dir := filepath.Join("/proc", strconv.Itoa(m.PID()))
		count := func(name string) int {
			list, err := os.ReadDir(filepath.Join(dir, name))
			must(m.t, err)
			return len(list)
		}
		b, err := admin.Metrics(m.t.Context())
		must(m.t, err)
		found := goroutines.FindStringSubmatch(string(b))
		if found == nil {
			m.t.Fatalf("the metrics have no goroutines: %.300s", b)
		}
		f = footprint{resident(m.PID()), count("fd"), count("task"), int(number(m.t, found[1]))}
		if time.Now().After(end) || f.descriptors <= least.descriptors && f.goroutines <= least.goroutines {
			return f
		}
	}
}

// TestSoak has all kinds of clients work at the same time, in rounds, and restarts them between
// two rounds. The agent must not grow, nor become slower. SOAK is the time that it takes.
func TestSoak(t *testing.T) {
	total := shortestSoak
	if text := os.Getenv(soakVariable); text != "" {
		var err error
		total, err = time.ParseDuration(text)
		must(t, err)
	}
	m := switchOn(t, "--spacing", "100ms")
	loads := m.loads(total)
	before := m.footprint(footprint{descriptors: 40, goroutines: 40})
	t.Logf("before: %v", before)
	var spaces []footprint
	var tables []map[string]account
	var costs []time.Duration
	for n := range rounds {
		used := m.processorTime()
		tables = append(tables, m.round(loads, total/rounds))
		costs = append(costs, (m.processorTime()-used)/time.Duration(answers(tables[n])))
		spaces = append(spaces, m.footprint(before))
		row := ""
		for _, name := range slices.Sorted(maps.Keys(tables[n])) {
			if a := tables[n][name]; len(a.Times) > 0 {
				row += fmt.Sprintf("; %s %d times, p50 %v, p99 %v", name, len(a.Times), round(a.median()), round(a.percentile(tailPercentile)))
			}
		}
		t.Logf("round %d: %v; %v of a processor for an answer%s", n+1, spaces[n], round(costs[n]), row)
	}
	m.compareSpace(spaces[1:1+several], spaces[rounds-several:])
	if total > shortestSoak { // in short rounds there is little to compare
		m.compareTimes(tables[1:1+several], tables[rounds-several:])
		m.compareCosts(costs[1:1+several], costs[rounds-several:])
	}
	for _, l := range loads {
		answered := 0
		for n, table := range tables {
			answered += len(table[l.name].Times) + len(table[l.name].Refused)
			if total > shortestSoak && l.name == "measure changed" && len(table[l.name].Times) == 0 {
				t.Errorf("round %d: no changed file was measured: %v", n+1, table[l.name].Refused)
			}
		}
		if l.Method != "" && l.Hang == 0 && answered == 0 {
			t.Errorf("%s: nothing was answered", l.name)
		}
	}
	if n := strings.Count(m.Output(), "\n"); n > 40*(1+int(total.Minutes())) {
		t.Errorf("the log has %d lines:\n%.3000s", n, m.Output())
	}
}

// least returns the least value of several things.
func least[T any, N int | uint64 | time.Duration](all []T, value func(T) N) N {
	n := value(all[0])
	for _, x := range all {
		n = min(n, value(x))
	}
	return n
}

// compareSpace checks that the agent has not grown.
func (m *machine) compareSpace(first, last []footprint) {
	m.t.Helper()
	memory := func(f footprint) uint64 { return f.memory }
	if a, z := least(first, memory), least(last, memory); float64(z) > memoryFactor*float64(a)+memorySlack {
		m.t.Errorf("memory grew from %d to %d bytes", a, z)
	}
	for what, count := range map[string]func(footprint) int{
		"descriptors": func(f footprint) int { return f.descriptors },
		"threads":     func(f footprint) int { return f.threads },
		"goroutines":  func(f footprint) int { return f.goroutines },
	} {
		if a, z := least(first, count), least(last, count); float64(z) > countFactor*float64(a)+countSlack {
			m.t.Errorf("%s grew from %d to %d", what, a, z)
		}
	}
}

// compareTimes checks that it has not become slower. A failure says what became of the yardstick:
// on a machine that has other work to do, the times say little of the agent.
func (m *machine) compareTimes(first, last []map[string]account) {
	m.t.Helper()
	for name := range first[0] {
		for _, p := range []int{50, tailPercentile} {
			at := func(name string) func(map[string]account) time.Duration {
				return func(table map[string]account) time.Duration { return table[name].percentile(p) }
			}
			strange := float64(least(last, at(yardstick))) / float64(least(first, at(yardstick)))
			if a, z := least(first, at(name)), least(last, at(name)); name != yardstick && z > time.Duration(latencyFactor*float64(a))+latencySlack {
				m.t.Errorf("percentile %d of %s grew from %v to %v, and that of the yardstick to %.1f of what it was: if that grew as well, run this on a quiet machine", p, name, a, z, strange)
			}
		}
	}
}

// compareCosts checks that an answer costs the agent no more than before. Other load of the machine
// hardly changes that.
func (m *machine) compareCosts(first, last []time.Duration) {
	m.t.Helper()
	itself := func(d time.Duration) time.Duration { return d }
	if a, z := least(first, itself), least(last, itself); float64(z) > costFactor*float64(a) {
		m.t.Errorf("processor time for an answer grew from %v to %v", a, z)
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// round has all clients work for a time, while declarations are read again.
func (m *machine) round(loads []load, d time.Duration) map[string]account {
	m.t.Helper()
	var parties []party
	for _, l := range loads {
		parties = append(parties, l.party)
	}
	running, measured := startAll(m.t, parties...), m.yardstick()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(min(100*time.Millisecond, d)) {
		must(m.t, m.Reload())
	}
	out := map[string]account{yardstick: measured()}
	for i, x := range running {
		a, l := x.end(true), loads[i]
		out[l.name] = a
		for code, n := range a.Refused {
			if l.refused == "" || !regexp.MustCompile("^("+l.refused+")$").MatchString(code) {
				m.t.Errorf("%s: %d times %q", l.name, n, code)
			}
		}
	}
	return out
}
