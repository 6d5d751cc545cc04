// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// TestFewVerdicts: a party that puts many policies makes no more than some figures; the others are one.
func TestFewVerdicts(t *testing.T) {
	var f figures
	for i := range 3 * maxVerdicts {
		f.appraised(fmt.Sprintf("p%d", i), &relying.Record{Appraisal: &verify.Appraisal{Verdict: verify.Pass}})
	}
	f.appraised("p0", &relying.Record{Appraisal: &verify.Appraisal{Verdict: verify.Pass}})
	s := new(metrics.Set)
	f.Metrics(s)
	said := string(s.Text(metrics.Prometheus))
	if n := strings.Count(said, "agentd_verifier_appraisals_total{"); n != maxVerdicts+1 {
		t.Errorf("%d figures, want %d", n, maxVerdicts+1)
	}
	for _, want := range []string{`{policy="p0",verdict="pass"} 2` + "\n", fmt.Sprintf(`{policy="others",verdict="pass"} %d`+"\n", 2*maxVerdicts)} {
		if !strings.Contains(said, want) {
			t.Errorf("the figures do not have %q:\n%.600s", want, said)
		}
	}
}
