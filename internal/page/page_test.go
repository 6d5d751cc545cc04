// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/page/pagetest"
	"github.com/cvm-agentd/agentd/verify"
)

// scene is what a test appraises. The zero value is good evidence, accepted by the guest's word.
type scene struct {
	covers verify.Cover
	tables string // of the policy
	change func(*evidencetest.Recipe)
	nonce  []byte
	roots  bool // AMD's own
}

func (s scene) appraise(t testing.TB) *verify.Appraisal {
	t.Helper()
	covers := s.covers
	if covers == "" {
		covers = verify.CoversKernel
	}
	policy, err := verify.ParsePolicy(fmt.Appendf(nil, "version = 1\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = %q\nlabel = \"image 7\"\n%s", hex.EncodeToString(evidencetest.Measurement), covers, s.tables))
	if err != nil {
		t.Fatal(err)
	}
	var config verify.Config
	if !s.roots {
		config.Roots.SNP = evidencetest.Roots(t)
	}
	v, err := verify.New(policy, config)
	if err != nil {
		t.Fatal(err)
	}
	r := evidencetest.New()
	if s.change != nil {
		s.change(r)
	}
	nonce := evidencetest.Nonce
	if s.nonce != nil {
		nonce = s.nonce
	}
	a, err := v.Appraise(r.Encode(t), verify.Expect{Nonce: nonce}, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// read draws a page and reads it.
func read(t testing.TB, a *verify.Appraisal, o Options) *pagetest.Page {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, a, o); err != nil {
		t.Fatal(err)
	}
	p, err := pagetest.Read(b.Bytes())
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, b.Bytes())
	}
	for _, c := range a.Checks {
		if p.States[string(c.ID)] == "" {
			t.Errorf("%s is not on the page", c.ID)
		}
	}
	if len(p.States) != len(a.Checks) {
		t.Errorf("the page has %d checks, the appraisal %d", len(p.States), len(a.Checks))
	}
	return p
}

// genuine returns a copy of an appraisal whose root is AMD's, as the verifier of genuine evidence makes it.
func genuine(t testing.TB, a *verify.Appraisal) *verify.Appraisal {
	t.Helper()
	claims, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	claims.Machine.TestRoot = false
	a.Sentences = slices.DeleteFunc(a.Sentences, func(s string) bool { return strings.HasPrefix(s, "THE ROOT IS A TEST ROOT") })
	return a
}

// TestVerdictFirst: what is accepted, accepted by the guest's word, and refused looks and reads
// differently, from the title of the window on.
func TestVerdictFirst(t *testing.T) {
	system := scene{covers: verify.CoversSystem}
	for name, c := range map[string]struct {
		appraisal *verify.Appraisal
		test      bool
		verdict   string
		tone      string
		warnings  int
		says      []string
		not       []string
	}{
		"accepted": {genuine(t, system.appraise(t)), false, "Accepted", "tone-accepted", 0, []string{"What it rests on", "by the processor's signature", "by the measured system's word"}, []string{"Why it was refused", "TEST ROOT"}},
		"by the guest's word": {genuine(t, scene{}.appraise(t)), false, "Accepted, by the guest's word", "tone-guest", 1,
			[]string{"By the guest's word", "so of root of the guest"}, []string{"Why it was refused", "TEST ROOT"}},
		"test root":                  {system.appraise(t), false, "Accepted, under a TEST ROOT", "tone-test", 1, []string{"vouches for no hardware"}, []string{"by the processor's signature", "AMD: its signature"}},
		"test root, by the guest":    {scene{}.appraise(t), true, "Accepted, by the guest's word, under a TEST ROOT", "tone-test", 2, []string{"by the word of a test root"}, []string{"by the processor's signature"}},
		"another nonce":              {scene{nonce: bytes.Repeat([]byte{7}, 32)}.appraise(t), false, "Refused", "tone-refused", 0, []string{"Why it was refused", "Treat the evidence as forged", "replay of old evidence", "Exit code", "refused below the policy"}, []string{"TEST ROOT", "What it rests on", "not met"}},
		"refused, under a test root": {scene{tables: "[[app]]\nname = \"payment\"\ndigests = [\"" + strings.Repeat("11", 32) + "\"]\n"}.appraise(t), true, "Refused, under a TEST ROOT", "tone-refused", 1, []string{"not what the policy asks for", "by the word of a test root", "refuses: 1 rule not met"}, []string{"by the processor's signature", "below the policy"}},
		"another root":               {scene{roots: true}.appraise(t), false, "Refused", "tone-refused", 0, []string{"report.chain", "proves nothing without the links that did not"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := read(t, c.appraisal, Options{Name: "evidence.json", TestRoot: c.test})
			if p.Verdict != c.verdict || p.Title != c.verdict+": evidence.json" || p.Tone != c.tone || len(p.Warnings) != c.warnings {
				t.Errorf("verdict %q, title %q, tone %q, warnings %q", p.Verdict, p.Title, p.Tone, p.Warnings)
			}
			if !strings.HasPrefix(p.Headings[0], "h1 ") {
				t.Errorf("the first heading is %q", p.Headings[0])
			}
			for _, s := range c.says {
				if !strings.Contains(p.Text, s) {
					t.Errorf("the page does not say %q", s)
				}
			}
			for _, s := range c.not {
				if strings.Contains(p.Text, s) {
					t.Errorf("the page says %q", s)
				}
			}
			if open := c.tone == "tone-refused"; (p.Open > 0) != open {
				t.Errorf("%d groups of checks are open", p.Open)
			}
		})
	}
}

// TestStates: each check has the state of its verdict, and one that was required and not made never
// looks like one that nothing asked for.
func TestStates(t *testing.T) {
	for _, s := range []scene{{}, {covers: verify.CoversSystem}, {nonce: bytes.Repeat([]byte{7}, 32)}, {roots: true}} {
		a := s.appraise(t)
		p := read(t, a, Options{})
		for _, c := range a.Checks {
			want := map[verify.Verdict]string{verify.Pass: "holds", verify.Fail: "failed", verify.NotAsserted: "absent"}[c.Verdict]
			switch {
			case c.Verdict == verify.NotAsserted && c.Required:
				want = "open"
			case c.Basis == verify.ByGuest:
				want = "guest"
			}
			if p.States[string(c.ID)] != want {
				t.Errorf("%s is %s, want %s", c.ID, p.States[string(c.ID)], want)
			}
		}
	}
}

// TestNothingOfRefused: a page of refused evidence has nothing of what the evidence claims, and an
// appraisal without claims is never accepted.
func TestNothingOfRefused(t *testing.T) {
	refused := read(t, scene{nonce: bytes.Repeat([]byte{7}, 32)}.appraise(t), Options{})
	accepted := read(t, scene{}.appraise(t), Options{})
	for _, claim := range []string{"billing.service", hex.EncodeToString(evidencetest.Measurement), "image 7", strings.Repeat("10", 32), "agentd 1.0.0"} {
		if !strings.Contains(accepted.Text, claim) {
			t.Errorf("the page of accepted evidence does not have %q", claim)
		}
		if strings.Contains(refused.Text, claim) {
			t.Errorf("the page of refused evidence has %q", claim)
		}
	}
	a := scene{}.appraise(t)
	a.Accepted = verify.Appraisal{}.Accepted
	if p := read(t, a, Options{}); p.Verdict != "Refused" {
		t.Errorf("without claims the verdict is %q", p.Verdict)
	}
}

// TestLinks: each check below the policy belongs to one link of the chain, and a link names no check
// that does not exist.
func TestLinks(t *testing.T) {
	known := map[string]bool{}
	for _, d := range verify.Definitions() {
		known[string(d.ID)] = true
		part, _, _ := strings.Cut(string(d.ID), ".")
		known[part+"."] = true
		if titles[part] == "" {
			t.Errorf("%s belongs to a part without a title", d.ID)
		}
		n := 0
		for i := range linkKinds {
			if linkKinds[i].of(d.ID) {
				n++
			}
		}
		if want := 1; part == "policy" && n != 0 || part != "policy" && n != want {
			t.Errorf("%s is of %d links", d.ID, n)
		}
	}
	for _, k := range linkKinds {
		for _, id := range slices.Concat(k.checks, k.also, []string{k.word}) {
			if id != "" && !known[id] {
				t.Errorf("the link %s names %q", k.id, id)
			}
		}
		if linkFacts[k.id] == nil || ways[k.id].to == 0 {
			t.Errorf("the link %s has no facts, or is not drawn", k.id)
		}
	}
}

// linkOf returns a link of an appraisal's chain.
func linkOf(t *testing.T, a *verify.Appraisal, id string) link {
	t.Helper()
	claims, _ := a.Claims()
	for _, l := range (words{}).chainOf(a, claims).Links {
		if l.ID == id {
			return l
		}
	}
	t.Fatalf("no link %s", id)
	return link{}
}

// TestBrokenLink: the chain shows the link that broke, and no link of a broken chain looks proven.
func TestBrokenLink(t *testing.T) {
	broken := linkOf(t, scene{roots: true}.appraise(t), "root-chip")
	if broken.State != failed || !slices.Contains(broken.Broken, "report.chain") {
		t.Errorf("the link is %s, broken by %v", broken.State, broken.Broken)
	}
	for name, s := range map[string]scene{"another root": {roots: true}, "another nonce": {nonce: bytes.Repeat([]byte{7}, 32)}} {
		c := words{}.chainOf(s.appraise(t), nil)
		for _, l := range c.Links {
			if l.State == holds || l.State == guests {
				t.Errorf("%s: the link %s is %s", name, l.ID, l.State)
			}
		}
	}
	for id, want := range map[string]state{"root-chip": holds, "chip-report": holds, "report-ak": guests, "report-agent": holds, "ak-quote": guests, "quote-log": guests, "agent-statement": guests, "statement-caller": guests, "log-caller": guests} {
		if got := linkOf(t, scene{}.appraise(t), id); got.State != want {
			t.Errorf("the link %s is %s, want %s", id, got.State, want)
		}
	}
	system := scene{covers: verify.CoversSystem}
	for _, id := range []string{"statement-caller", "log-caller", "quote-log"} {
		if got := linkOf(t, system.appraise(t), id); got.State != holds || got.Says != "by the measured system's word" {
			t.Errorf("the link %s is %s, %s", id, got.State, got.Says)
		}
	}
}

// TestTimeline: what interrupts coverage is in the timeline, in the order of the records.
func TestTimeline(t *testing.T) {
	log := &verify.LogState{Head: evidence.LogHead{Count: 9}, Time: 9000, PCR: 13}
	log.Gaps = []verify.RecordedReason{{Record: 4, Reason: "queue lost events"}}
	log.Agents = []verify.AgentClaim{{Record: 1, Version: "1.0.0"}}
	interval := verify.Interval{}
	interval.Begin.Record, interval.Begin.Time = 2, 2000
	log.Apps = []verify.AppClaim{{Name: "billing", Versions: []verify.AppVersion{{Record: 2, Unit: "billing.service", User: "billing"}}, Intervals: []verify.Interval{interval}}}
	events, more := timeline(log)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%d %s %s", e.Record, e.At, e.Kind))
	}
	if want := []string{"1  plain", "2 2s plain", "4  alarm"}; !slices.Equal(got, want) || more != "" {
		t.Errorf("%q, %q", got, more)
	}
	v := newLogView(&verify.Claims{Log: log})
	if len(v.Apps) != 1 || !v.Apps[0].Now || !slices.Equal(v.Apps[0].Bars, []bar{{X: 0, Width: 1000}}) {
		t.Errorf("%+v", v.Apps)
	}
}

// TestBars: times of a log that contradicts itself stay in the drawing.
func TestBars(t *testing.T) {
	times := []uint64{0, 1, 899, 1000, 1001, math.MaxUint64 - 1, math.MaxUint64}
	for _, s := range []span{{0, 0}, {0, 1000}, {1000, 0}, {5, math.MaxUint64}, {math.MaxUint64, 0}} {
		for _, from := range times {
			for _, to := range times {
				if b := s.bar(from, to, false); b.X < 0 || b.Width < 4 || b.X+b.Width > 1000 {
					t.Errorf("%v from %d to %d: %+v", s, from, to, b)
				}
			}
		}
	}
}

// TestBounded: however much an attacker writes into a log, the page stays small, says what it leaves
// out, and keeps what ends coverage.
func TestBounded(t *testing.T) {
	a := scene{}.appraise(t)
	claims, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("'", 4<<10) // each takes five bytes when it is escaped
	log := claims.Log
	for i := range uint64(200_000) {
		log.Emitted = append(log.Emitted, verify.EmittedClaim{App: long, Domain: long, Content: []byte(long), First: i, Last: i + 1, Count: 2})
	}
	for i := range uint64(2_000) {
		app := verify.AppClaim{Name: long, Versions: []verify.AppVersion{{Record: i, Unit: long, User: long, Interpreter: long}}}
		for range 50 {
			v := verify.Interval{}
			v.Begin.Time, v.Begin.Record = i, i
			app.Intervals = append(app.Intervals, v)
		}
		log.Apps = append(log.Apps, app)
		log.Agents = append(log.Agents, verify.AgentClaim{Record: i, Version: long})
	}
	log.Gaps = append(log.Gaps, verify.RecordedReason{Record: 100_000, Reason: "the gap that must be seen"})
	for range 5_000 {
		claims.PCRs = append(claims.PCRs, verify.PCRClaim{Bank: long, Value: long, Explained: verify.Explanation(long)})
	}
	claims.Statement.UserData, claims.Statement.PublicKey, claims.Statement.Audience = []byte(long), []byte(long), long
	claims.Statement.Caller.Unit, claims.Statement.Caller.App = long, long
	claims.IMA = &verify.IMAClaim{Entries: 1 << 40, Unlisted: 1 << 30}
	for range 5_000 {
		claims.IMA.Named = append(claims.IMA.Named, verify.MeasuredFile{Path: long})
	}
	a.Sentences = slices.Repeat([]string{long}, 500)
	for i := range a.Checks {
		c := &a.Checks[i]
		c.Sentence, c.Found, c.Expected = long, long, long
	}
	size := func() int {
		t.Helper()
		var b bytes.Buffer
		began := time.Now()
		if err := Write(&b, a, Options{Name: long}); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes in %v", b.Len(), time.Since(began))
		p, err := pagetest.Read(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if a.Verdict == verify.Pass {
			for _, s := range []string{"the gap that must be seen", "are left out from the middle", "application" + "s more", "values more"} {
				if !strings.Contains(p.Text, s) {
					t.Errorf("the page does not say %q", s)
				}
			}
		}
		return b.Len()
	}
	if n := size(); n > 3<<20 {
		t.Errorf("the page of accepted evidence has %d bytes", n)
	}
	for i := range a.Checks {
		a.Checks[i].Verdict, a.Checks[i].Required = verify.Fail, true
	}
	a.Verdict, a.Class = verify.Fail, verify.ClassBinding
	if n := size(); n > 4<<20 {
		t.Errorf("the page of refused evidence has %d bytes", n)
	}
}

// TestSameBytes: the same appraisal gives the same page.
func TestSameBytes(t *testing.T) {
	var first []byte
	for range 20 {
		var b bytes.Buffer
		if err := Write(&b, scene{}.appraise(t), Options{Name: "evidence.json"}); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		}
		if !bytes.Equal(first, b.Bytes()) {
			t.Fatal("the page differs")
		}
	}
}

var colours = regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6})`)

// luminance returns the relative luminance of a colour (WCAG 2.2).
func luminance(t *testing.T, digits string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	part := func(v uint64) float64 {
		c := float64(v&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(n>>16) + 0.7152*part(n>>8) + 0.0722*part(n)
}

// TestContrast: text has the contrast of level AA against each ground that it is on, in both themes.
func TestContrast(t *testing.T) {
	screen, _, _ := strings.Cut(Style, "@media print")
	light, dark, ok := strings.Cut(screen, "prefers-color-scheme: dark")
	if !ok {
		t.Fatal("the page lacks a dark theme")
	}
	for theme, css := range map[string]string{"light": light, "dark": dark} {
		found := map[string]float64{}
		for _, m := range colours.FindAllStringSubmatch(css, -1) {
			found[m[1]] = luminance(t, m[2])
		}
		for _, on := range []string{"paper", "card", "accent-wash", "warn-wash", "bad-wash"} {
			for _, text := range []string{"ink", "soft", "accent", "warn", "bad"} {
				x, y := found[text], found[on]
				if x == 0 || y == 0 {
					t.Fatalf("%s: no colour %s or %s", theme, text, on)
				}
				if ratio := (max(x, y) + 0.05) / (min(x, y) + 0.05); ratio < 4.5 {
					t.Errorf("%s: %s on %s has contrast %.2f, want 4.5", theme, text, on, ratio)
				}
			}
		}
	}
}
