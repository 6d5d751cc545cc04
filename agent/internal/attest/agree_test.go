// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestAgree: a quote counts as compared only if it has every PCR of the log, and one that
// contradicts the log in any of them, in any bank, does not agree.
func TestAgree(t *testing.T) {
	value := func(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }
	register := func(index uint32, n byte) pcr.Register {
		return pcr.Register{PCR: index, Values: []pcr.Digest{{Algorithm: pcr.SHA1, Value: value(n)[:20]}, {Algorithm: pcr.SHA256, Value: value(n)}}}
	}
	one, two := []pcr.Register{register(13, 1)}, []pcr.Register{register(13, 1), register(14, 2)}
	for name, c := range map[string]struct {
		log      []pcr.Register
		quoted   map[uint32]byte // of SHA-256
		sha1     map[uint32]byte
		compared bool
		names    string // PCR of the error; none if empty
	}{
		"one":                         {one, map[uint32]byte{13: 1}, nil, true, ""},
		"one, not quoted":             {one, map[uint32]byte{14: 1}, nil, false, ""},
		"one, contradicted":           {one, map[uint32]byte{13: 2}, nil, true, "PCR 13"},
		"two":                         {two, map[uint32]byte{13: 1, 14: 2}, nil, true, ""},
		"two, the second not quoted":  {two, map[uint32]byte{13: 1}, nil, false, ""},
		"two, the first not quoted":   {two, map[uint32]byte{14: 2}, nil, false, ""},
		"two, the second in SHA-1":    {two, map[uint32]byte{13: 1}, map[uint32]byte{14: 2}, true, ""},
		"two, the second elsewhere":   {two, map[uint32]byte{13: 1, 14: 1}, nil, true, "PCR 14"},
		"two, elsewhere in one bank":  {two, map[uint32]byte{13: 1, 14: 2}, map[uint32]byte{14: 3}, true, "PCR 14"},
		"two, the second as in first": {two, map[uint32]byte{13: 2, 14: 1}, nil, true, "PCR 13"},
	} {
		q := &vtpm.Quoted{PCRs: pcr.Values{}}
		for index, n := range c.quoted {
			q.PCRs.Set(pcr.SHA256, index, value(n))
		}
		for index, n := range c.sha1 {
			q.PCRs.Set(pcr.SHA1, index, value(n)[:20])
		}
		compared, err := agree(q, ledger.View{Registers: c.log})
		if compared != c.compared || errors.Is(err, ErrPCRMismatch) != (c.names != "") || err != nil && !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: compared %t, %v", name, compared, err)
		}
	}
}
