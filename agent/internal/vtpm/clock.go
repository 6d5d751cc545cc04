// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// Clock is the TPMS_CLOCK_INFO of a quote (TPM 2.0 Part 2, section 10.11.1) with
// the qualified signer. For a key outside the endorsement and platform hierarchies
// the TPM shifts the counts by a constant of that key, so they mean something only
// next to another quote of the same key.
type Clock struct {
	Signer       []byte // qualified name of the AK
	Milliseconds uint64
	ResetCount   uint32
	RestartCount uint32
}

// SameBoot reports whether c and d were taken by one key with no TPM reset, restart
// or resume between, so that their milliseconds can be compared.
func (c Clock) SameBoot(d Clock) bool {
	return bytes.Equal(c.Signer, d.Signer) && c.ResetCount == d.ResetCount && c.RestartCount == d.RestartCount
}

func clockOf(a *tpmwire.Attest) Clock {
	return Clock{Signer: a.QualifiedSigner, Milliseconds: a.Clock, ResetCount: a.ResetCount, RestartCount: a.RestartCount}
}
