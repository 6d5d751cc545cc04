// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// accepted is a record of accepted evidence of a machine with a launch measurement.
func accepted(t *testing.T, ak keys.Name, measurement string, at time.Time) *relying.Record {
	t.Helper()
	a := new(verify.Appraisal)
	text := fmt.Sprintf(`{"verdict":"pass","claims":{"machine":{"platform":"snp","measurement":%q,"product":"turin","reportedTCB":{"snp":4,"fmc":1}}}}`, measurement)
	if err := json.Unmarshal([]byte(text), a); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Claims(); err != nil {
		t.Fatal(err)
	}
	return &relying.Record{Time: at, AK: ak, Appraisal: a}
}

// refused is a record of evidence that was refused for a check of a class.
func refused(ak keys.Name, class verify.Class, at time.Time) *relying.Record {
	return &relying.Record{Time: at, AK: ak, Appraisal: &verify.Appraisal{Verdict: verify.Fail, Class: class}}
}

func testMachines(t *testing.T, d *database) {
	ctx, s := t.Context(), d.worker(t, Limits{Machines: 251})
	keep := func(policy string, r *relying.Record) {
		t.Helper()
		if err := s.Records(&Policy{Name: policy, Version: 3}).Append(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	machine := func(n int) keys.Name { return append(keys.Name{0, 0x0b, byte(n)}, name(1)[3:]...) }
	keep("b", accepted(t, nil, "cc", now)) // of a bare report, which names no machine
	if all, err := s.Machines(ctx, Filter{}, "", nil); err != nil || len(all) != 0 {
		t.Fatalf("without an attestation key: %+v, %v", all, err)
	}
	for n := range 150 {
		keep("b", accepted(t, machine(n), "aa", now.Add(-time.Duration(n)*time.Hour)))
	}
	for n := range 101 {
		keep("a", accepted(t, machine(n), "aa", now))
	}
	keep("a", accepted(t, machine(200), "aa", now)) // one more than the limit

	// Pages have each machine once, in their order, also if some change meanwhile.
	seen, policy, ak := 0, "", keys.Name(nil)
	for {
		page, err := s.Machines(ctx, Filter{}, policy, ak)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			if m.Policy < policy || m.Policy == policy && m.AK.String() <= ak.String() {
				t.Fatalf("%s %s after %s %s", m.Policy, m.AK, policy, ak)
			}
			policy, ak = m.Policy, m.AK
			seen++
		}
		keep("b", accepted(t, machine(149), "aa", now.Add(time.Duration(seen)*time.Second)))
	}
	if seen != 251 {
		t.Errorf("%d machines on all pages", seen)
	}

	// What changed, and what does not count.
	keep("b", accepted(t, machine(1), "bb", now.Add(time.Minute)))
	keep("b", refused(machine(2), verify.ClassPolicy, now.Add(time.Minute)))
	keep("b", refused(machine(3), verify.ClassBinding, now.Add(time.Minute)))
	keep("b", refused(machine(200), verify.ClassPolicy, now.Add(time.Minute)))
	ended := accepted(t, machine(4), "cc", now.Add(time.Minute))
	ended.Code = api.Code("boot-ended")
	keep("b", ended)
	f, err := s.Fleet(ctx, Filter{Policy: "b"}, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machines != 150 || f.Most != 251 || fmt.Sprint(f.Verdicts) != fmt.Sprint([]Group{{Policy: "b", Verdict: verify.Pass, Machines: 149}, {Policy: "b", Verdict: verify.Fail, Machines: 1}}) ||
		fmt.Sprint(f.Measurements) != fmt.Sprint([]Group{{Measurement: "aa", Machines: 149}, {Measurement: "bb", Machines: 1}}) ||
		fmt.Sprint(f.TCBs) != fmt.Sprint([]Group{{Product: "turin", TCB: "fmc=1 snp=4", Machines: 150}}) {
		t.Errorf("%+v", f)
	}
	// They were accepted 0 to 149 hours ago. 1 and 149 came again, and a minute passed.
	if fmt.Sprint(f.Ages) != fmt.Sprint([]Group{{Within: "1h", Machines: 3}, {Within: "1d", Machines: 22}, {Within: "7d", Machines: 125}, {Within: "ever"}}) {
		t.Errorf("%+v", f.Ages)
	}
	if len(f.Changed) != 1 || f.Changed[0].AK.String() != machine(1).String() || !f.Changed[0].Changed.Equal(now.Add(time.Minute).Truncate(time.Microsecond)) || !f.Changed[0].Known.Equal(now.Add(-time.Hour).Truncate(time.Microsecond)) {
		t.Errorf("%+v", f.Changed)
	}
	for _, c := range []struct {
		filter Filter
		want   int
	}{
		{Filter{Verdict: verify.Fail}, 1}, {Filter{Policy: "b", Measurement: "bb"}, 1}, {Filter{Policy: "a", Measurement: "bb"}, 0}, {Filter{Product: "milan"}, 0},
		{Filter{TCB: "fmc=1 snp=4"}, MaxPage}, {Filter{Before: now.Add(-124 * time.Hour)}, 24},
	} {
		if all, err := s.Machines(ctx, c.filter, "", nil); err != nil || len(all) != c.want {
			t.Errorf("%+v: %d machines, %v, want %d", c.filter, len(all), err, c.want)
		}
	}
}
