// SPDX-License-Identifier: Apache-2.0

package status

import (
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

func TestLine(t *testing.T) {
	good := api.Status{
		Evidence: api.EvidenceStatus{Ready: true},
		TPM:      api.TPMStatus{State: api.StateOK},
		Platform: api.PlatformStatus{State: api.StateOK},
		Ledger:   api.LedgerStatus{Synchronised: true, Records: 7},
		Apps:     api.AppCounts{Declared: 3, Measured: 2, Unmeasured: 1},
	}
	not := func(code api.Code, reason string) func(*api.Status) {
		return func(s *api.Status) { s.Evidence = api.EvidenceStatus{Code: code, Reason: reason} }
	}
	for _, test := range []struct {
		name   string
		change func(*api.Status)
		want   string
	}{
		{"all well", func(*api.Status) {}, "2 of 3 applications measured, 7 records"},
		{"no TPM", not(api.CodeTPM, "a\nb"), "No evidence: TPM is not available (tpm-unavailable)"},
		{"starting", not(api.CodeUnavailable, api.ReasonStarting), "No evidence yet: the agent is starting"},
		{"no reports", not(api.CodePlatformAbsent, "x"), "No evidence: No report device (platform-absent)"},
		{"desynchronised", not(api.CodeDesynchronised, "x"), "No evidence: Log and PCR do not match (log-desynchronised)"},
		{"full", func(s *api.Status) { s.Ledger.Full = true }, "2 of 3 applications measured, 7 records, log full"},
		{"full before the start", not(api.CodeLogFull, "x"), "No evidence: Measurement log is full (log-full)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := good
			test.change(&s)
			if got := Line(s); got != test.want {
				t.Errorf("line %q, want %q", got, test.want)
			}
		})
	}
}
