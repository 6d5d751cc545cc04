// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"

	"github.com/cvm-agentd/agentd/api"
)

// Line returns in a few words what the agent can do. Reasons are left to agentctl status:
// they can contain anything, and this must be one line.
func Line(s api.Status) string {
	switch {
	case s.TPM.Reason == api.ReasonStarting, s.Ledger.Reason == api.ReasonStarting:
		return "No evidence yet: the agent is starting"
	case s.TPM.State != api.StateOK:
		return fmt.Sprintf("No evidence: the TPM is %s", s.TPM.State)
	case s.Ledger.Reason != "" && !s.Ledger.Synchronised:
		return "No evidence: measurement log and PCR are not in step"
	case s.Platform.State == api.StateAbsent:
		return "No evidence: there is no report device"
	}
	out := fmt.Sprintf("%d of %d applications measured, %d records", s.Apps.Measured, s.Apps.Declared, s.Ledger.Records)
	if s.Ledger.Full {
		out += ", log full"
	}
	if s.Platform.State == api.StateDegraded {
		out += ", reports fail"
	}
	return out
}
