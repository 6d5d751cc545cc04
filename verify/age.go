// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"

	"github.com/cvm-agentd/agentd/evidence"
)

// userDataHoldsNonce tells that the user data that a paravisor's set was held against
// contains the nonce whole. A constant, such as the zeros of a paravisor that was handed
// nothing, is in every report since boot; a nonce shorter than 16 bytes may be in one
// by chance.
func (a *appraiser) userDataHoldsNonce() bool {
	return len(a.expect.Nonce) >= evidence.MinNonce && bytes.Contains(a.expect.UserData, a.expect.Nonce)
}

// ageOfRaw says for people what is known of the age of a report in raw material; empty
// where it is as new as the nonce, and for evidence.
func (a *appraiser) ageOfRaw(f Freshness) string {
	switch {
	case f == UnknownReport && a.material == MaterialParavisor && a.Passed(QuoteQualifyingData):
		return "The quote holds the nonce and is new; the report is of unknown age and may be old: no user data in it holds the nonce. A change of firmware after it is not seen."
	case f == UnknownReport:
		return "The report is of unknown age and may be old: nothing in it says when it was made. A change of firmware after it is not seen."
	case a.material == MaterialReport && len(a.expect.ReportData) != 0:
		return "The report holds the report data that was stated. It is as new as they are: whether they hold a nonce is the claim of whoever stated them, and was not checked."
	}
	return ""
}
