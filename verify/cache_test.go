// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestCacheChangesNothing: every mutation of a report, seen after its good original by
// one and the same cache, gets the appraisal that it gets without a cache, twice.
func TestCacheChangesNothing(t *testing.T) {
	good := evidencetest.New()
	for _, m := range append(append([]mutation{}, reportMutations...), rawMutations...) {
		t.Run(string(m.id)+"/"+m.name, func(t *testing.T) {
			cold := m.run(t, nil)
			known := cache.New(8)
			o := baseOptions(t)
			o.Cache = known
			if a, err := appraiseEvidence(good.Encode(t), o); err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			change := m.opts
			m.opts = func(t *testing.T, o *options) {
				if change != nil {
					change(t, o)
				}
				o.Cache = known
			}
			for range 2 {
				warm := m.run(t, nil)
				if a, b := failedIDs(cold), failedIDs(warm); !sameIDs(a, b) {
					t.Fatalf("failed are %v with the cache, %v without", b, a)
				}
			}
		})
	}
}

// TestCacheHolds: the same bytes give the same appraisal, to the last word, from the
// cache, and what depends on more than them is looked at again.
func TestCacheHolds(t *testing.T) {
	document := evidencetest.New().Encode(t)
	fresh := func() options {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy(`revocation = "required"`, ""))
		o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, o.Time.AddDate(0, -1, 0), o.Time.AddDate(0, 1, 0))}
		return o
	}
	known := cache.New(8)
	o := fresh()
	cold, err := appraiseEvidence(document, o)
	if err != nil || cold.Verdict != Pass {
		t.Fatal(err, explain(cold))
	}
	o.Cache = known
	for i := range 3 {
		warm, err := appraiseEvidence(document, o)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(cold)
		b, _ := json.Marshal(warm)
		if !bytes.Equal(a, b) {
			t.Fatalf("appraisal %d differs:\n%s\n%s", i, a, b)
		}
	}
	if n := known.Len(); n != 2 {
		t.Fatalf("%d entries, want report and list", n)
	}
	for _, c := range []struct {
		name   string
		change func(*options)
		want   CheckID
	}{
		{"the certificate expired", func(o *options) {
			o.Time = evidencetest.Time.AddDate(6, 0, 1)
			o.Policy = mustPolicy(t, makePolicy("", ""))
			o.Revocation = nil
		}, ReportValidity},
		{"the list is past its time", func(o *options) { o.Time = o.Time.AddDate(0, 2, 0) }, ReportRevocationList},
		{"the list revokes", func(o *options) {
			o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, o.Time.AddDate(0, -1, 0), o.Time.AddDate(0, 1, 0), evidencetest.Serial)}
		}, ReportRevocation},
		{"no list", func(o *options) { o.Revocation = nil }, ReportRevocationList},
		{"other roots", func(o *options) { o.Roots = nil }, ReportChain},
		{"roots without the product", func(o *options) {
			o.Roots = new(snp.Roots)
			if err := o.Roots.AddTestRootThatVouchesForNoHardware(evidencetest.Root(t, snp.Turin)); err != nil {
				t.Fatal(err)
			}
		}, ReportChain},
		{"another policy", func(o *options) { o.Policy = mustPolicy(t, makePolicy(`products = ["turin"]`, "")) }, PolicyProduct},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := fresh()
			o.Cache = known
			c.change(&o)
			a, err := appraiseEvidence(document, o)
			if err != nil {
				t.Fatal(err)
			}
			if ids := failedIDs(a); len(ids) != 1 || ids[0] != c.want {
				t.Errorf("failed are %v, want %s", ids, c.want)
			}
		})
	}
}

// TestCacheOutlivesBuffers: what is remembered does not change with the caller's bytes.
func TestCacheOutlivesBuffers(t *testing.T) {
	r := evidencetest.NewReport(snp.Genoa)
	var data [64]byte
	copy(data[:], evidencetest.Nonce)
	report, certificates := r.Make(t, data)
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(bareRoot, ""))
	o.Cache = cache.New(8)
	m := RawReport{Kind: evidence.ReportSNP, Report: bytes.Clone(report), Certificates: [][]byte{bytes.Clone(certificates[0]), certificates[1], certificates[2]}}
	if a, err := appraiseReport(m, o); err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	clear(m.Report)
	clear(m.Certificates[0])
	a, err := appraiseReport(RawReport{Kind: evidence.ReportSNP, Report: report, Certificates: certificates}, o)
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
}

// TestCacheIsShared: several goroutines use one cache.
func TestCacheIsShared(t *testing.T) {
	document := evidencetest.New().Encode(t)
	o := baseOptions(t)
	o.Cache = cache.New(0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			at := o
			at.Time = at.Time.Add(time.Second)
			if a, err := appraiseEvidence(document, at); err != nil || a.Verdict != Pass {
				t.Error(err, explain(a))
			}
		})
	}
	wg.Wait()
}
