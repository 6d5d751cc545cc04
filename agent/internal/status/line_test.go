// SPDX-License-Identifier: Apache-2.0

package status

import (
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

func TestLine(t *testing.T) {
	good := api.Status{
		TPM:      api.TPMStatus{State: api.StateOK},
		Platform: api.PlatformStatus{State: api.StateOK},
		Ledger:   api.LedgerStatus{Synchronised: true, Records: 7},
		Apps:     api.AppCounts{Declared: 3, Measured: 2, Unmeasured: 1},
	}
	for _, test := range []struct {
		name   string
		change func(*api.Status)
		want   string
	}{
		{"all well", func(*api.Status) {}, "2 of 3 applications measured, 7 records"},
		{"no TPM", func(s *api.Status) { s.TPM = api.TPMStatus{State: api.StateAbsent, Reason: "a\nb"} }, "No evidence: the TPM is absent"},
		{"TPM not tried yet", func(s *api.Status) { s.TPM = api.TPMStatus{State: api.StateAbsent, Reason: api.ReasonStarting} }, "No evidence yet: the agent is starting"},
		{"applications not read yet", func(s *api.Status) { s.Ledger.Synchronised, s.Ledger.Reason = false, api.ReasonStarting }, "No evidence yet: the agent is starting"},
		{"no reports", func(s *api.Status) { s.Platform.State = api.StateAbsent }, "No evidence: there is no report device"},
		{"reports fail", func(s *api.Status) { s.Platform.State = api.StateDegraded }, "2 of 3 applications measured, 7 records, reports fail"},
		{"desynchronised", func(s *api.Status) { s.Ledger.Synchronised, s.Ledger.Reason = false, "x" }, "No evidence: measurement log and PCR are not in step"},
		{"full", func(s *api.Status) { s.Ledger.Full = true }, "2 of 3 applications measured, 7 records, log full"},
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
