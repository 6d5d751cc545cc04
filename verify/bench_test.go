// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
)

func BenchmarkEvidence(b *testing.B) {
	document := evidencetest.New().Encode(b)
	o := baseOptions(b)
	b.SetBytes(int64(len(document)))
	for b.Loop() {
		a, err := appraiseEvidence(document, o)
		if err != nil || a.Verdict != Pass {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmEvidence: what evidence costs whose report and certificates are in the cache.
func BenchmarkWarmEvidence(b *testing.B) {
	document := evidencetest.New().Encode(b)
	o := baseOptions(b)
	o.Cache = cache.New(8)
	for b.Loop() {
		if a, err := appraiseEvidence(document, o); err != nil || a.Verdict != Pass {
			b.Fatal(err)
		}
	}
}
