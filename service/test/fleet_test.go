// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/page/pagetest"
	"github.com/cvm-agentd/agentd/keys"
)

// known is a machine as the service lists it.
type known struct {
	Policy, AK, Verdict, Product, TCB, Measurement string
	Accepted, Known, Changed, Refused              time.Time
	Record, Version, Refusal                       uint64
}

// machines lists what a query selects, page by page.
func (w *worker) machines(query string) (all []known) {
	w.t.Helper()
	for after := ""; ; {
		var page struct {
			Machines []known
			After    string
		}
		status, media, body := w.page("/admin/v1/machines?" + query + after)
		if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 || media != "application/json" {
			w.t.Fatalf("%s: %d, %s, %v", query, status, body, err)
		}
		all = append(all, page.Machines...)
		if page.After == "" {
			return all
		}
		after = "&after=" + url.QueryEscape(page.After)
	}
}

// TestFleet: machines are known by evidence that was accepted, what they are follows later evidence, and
// a policy's refusal of genuine evidence counts. What anyone could have sent counts for nothing.
func TestFleet(t *testing.T) {
	onEach(t, func(t *testing.T, b *bed) {
		w := b.start("one")
		w.put(b.alice(), "default", easy, "", nil)
		w.put(b.alice(), "strict", easy+"outside_enrolments = \"approved\"\nak_origin = \"enrolled\"\n", "", nil)
		vmpl2 := func(r *evidencetest.Recipe) { r.Report.Body = func(b []byte) { b[evidencetest.AtVMPL] = 2 } }
		other := func(r *evidencetest.Recipe) { r.AK = evidencetest.ECCKey('b') }

		w.appraise("", vmpl2)        // refused, and of no known machine
		w.appraise("/p/strict", nil) // the same
		if all := w.machines(""); len(all) != 0 {
			t.Fatalf("refused evidence makes machines known: %+v", all)
		}
		w.appraise("", nil)
		w.appraise("", other)
		first := w.machines("")
		if len(first) != 2 || first[0].AK >= first[1].AK {
			t.Fatalf("%+v", first)
		}
		for _, m := range first {
			if m.Policy != "default" || m.Verdict != "pass" || m.Product != "genoa" || !strings.Contains(m.TCB, "microcode=72") || m.Measurement != fmt.Sprintf("%x", evidencetest.Measurement) || m.Changed != m.Known || m.Known != m.Accepted || !m.Refused.IsZero() || m.Version != 1 {
				t.Errorf("%+v", m)
			}
		}
		mine, err := keys.ParsePublic(evidencetest.New().AK.Public())
		if err != nil {
			t.Fatal(err)
		}
		me := func() known {
			t.Helper()
			for _, m := range w.machines("") {
				if m.AK == mine.Name().String() {
					return m
				}
			}
			t.Fatal("the machine is not there")
			return known{}
		}
		w.appraise("", func(r *evidencetest.Recipe) { r.Batch.Signature = func(b []byte) []byte { b[len(b)-1] ^= 1; return b } })
		if m := me(); m.Verdict != "pass" || !m.Refused.IsZero() {
			t.Errorf("evidence with a forged quote: %+v", m)
		}
		w.appraise("", vmpl2)
		if m := me(); m.Verdict != "fail" || m.Refused.IsZero() || m.Refusal == 0 || m.Record == m.Refusal || m.Measurement == "" {
			t.Errorf("genuine evidence that the policy refuses: %+v", m)
		}
		w.appraise("", func(r *evidencetest.Recipe) {
			r.Report.Body = func(b []byte) { copy(b[evidencetest.AtMeasurement:], strings.Repeat("\x01", 48)) }
		})
		m := me()
		if m.Verdict != "pass" || m.Measurement != strings.Repeat("01", 48) || m.Changed != m.Accepted || m.Known == m.Changed || m.Refused.IsZero() {
			t.Errorf("another image: %+v", m)
		}
		for query, want := range map[string]int{
			"policy=default": 2, "policy=strict": 0, "verdict=pass": 2, "verdict=fail": 0, "product=genoa": 2, "product=turin": 0, "measurement=" + m.Measurement: 1,
			"tcb=" + url.QueryEscape(m.TCB): 2, "tcb=none": 0, "older=1h": 0, "older=7d": 0, "policy=default&verdict=pass&measurement=" + m.Measurement: 1,
		} {
			if n := len(w.machines(query)); n != want {
				t.Errorf("%s: %d machines, want %d", query, n, want)
			}
		}
		for _, query := range []string{"verdict=maybe", "older=2h", "after=x", "after=default+zz", "policy=a&policy=b", "unknown=1", "product=%00", "product=" + strings.Repeat("a", 257)} {
			for _, path := range []string{"machines", "fleet", "fleet/page"} {
				if status, media, _ := w.page("/admin/v1/" + path + "?" + query); status != 400 || media != "application/problem+json" {
					t.Errorf("%s?%.30s: %d", path, query, status)
				}
			}
		}
		fleetSays(t, w, m)
	})
}

// fleetSays checks the summary and the page of two machines, of which m changed.
func fleetSays(t *testing.T, w *worker, m known) {
	t.Helper()
	type group struct {
		Policy, Verdict, Product, TCB, Measurement, Within string
		Machines                                           int
	}
	var fleet struct {
		Machines, Most                     int
		Verdicts, Ages, TCBs, Measurements []group
		Changed                            []known
		Head                               struct{ Sequence uint64 }
	}
	_, _, body := w.page("/admin/v1/fleet")
	if err := json.Unmarshal([]byte(body), &fleet); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	if fleet.Machines != 2 || fleet.Most != 100_000 || !slices.Equal(fleet.Verdicts, []group{{Policy: "default", Verdict: "pass", Machines: 2}}) ||
		!slices.Equal(fleet.TCBs, []group{{Product: "genoa", TCB: m.TCB, Machines: 2}}) || len(fleet.Measurements) != 2 || fleet.Measurements[0].Machines != 1 ||
		!slices.Equal(fleet.Ages, []group{{Within: "1h", Machines: 2}, {Within: "1d"}, {Within: "7d"}, {Within: "ever"}}) ||
		len(fleet.Changed) != 1 || fleet.Changed[0].AK != m.AK || fleet.Head.Sequence == 0 {
		t.Errorf("%+v", fleet)
	}
	status, media, body := w.page("/admin/v1/fleet/page?verdict=pass")
	p, err := pagetest.Read([]byte(body), "?", "/admin/v1/records/")
	if err != nil || status != 200 || media != "text/html; charset=utf-8" {
		t.Fatalf("%d, %s, %v\n%s", status, media, err, body)
	}
	for _, want := range []string{"2 machines", m.AK, m.Measurement, m.TCB, "What changed last", "verdict: pass"} {
		if !strings.Contains(p.Text, want) {
			t.Errorf("the page does not say %q:\n%s", want, p.Text)
		}
	}
	// Each link of the page leads somewhere.
	links := regexp.MustCompile(`href="([^"#]+)[^"]*"`).FindAllStringSubmatch(body, -1)
	if len(links) < 10 {
		t.Errorf("%d links", len(links))
	}
	for _, l := range links {
		path := html.UnescapeString(l[1])
		if strings.HasPrefix(path, "?") {
			path = "/admin/v1/fleet/page" + path
		}
		if status, _, said := w.page(path); status != 200 {
			t.Errorf("%s: %d, %s", path, status, said)
		}
	}
}
