// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"math"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Lists of a document. Each stops reading at its cap: a document that is refused must not
// take many times its own length in memory.
type (
	Banks        []Bank   // at most MaxBanks
	Registers    []PCR    // at most MaxPCRs
	Path         []Digest // at most MaxProof
	Certificates []Bytes  // at most MaxCertificates
)

// UnmarshalJSONFrom decodes at most [MaxBanks] banks.
func (l *Banks) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxBanks, Bank{})
}

// UnmarshalJSONFrom decodes at most [MaxPCRs] registers.
func (l *Registers) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxPCRs, PCR{Index: absent32})
}

// UnmarshalJSONFrom decodes at most [MaxProof] digests.
func (l *Path) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxProof, Digest{})
}

// UnmarshalJSONFrom decodes at most [MaxCertificates] certificates.
func (l *Certificates) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxCertificates, nil)
}

// An integer whose zero means something has one of these values before a document is read. It
// keeps the value if the document lacks the member. Otherwise a caller without a uid would be
// root, and a document would have two spellings. The format allows neither value.
const (
	absent   = math.MaxUint64 // beyond strictjson.MaxInteger
	absent32 = math.MaxUint32
)

// present returns an error if the member of this name was not read.
func present(part string, got uint64) error {
	if got == absent {
		return fmt.Errorf("%s is missing", part)
	}
	return nil
}

// UnmarshalJSONFrom decodes a snapshot. A count of the log head that is absent is not zero.
func (s *Snapshot) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type members Snapshot
	s.LogHead.Count = absent
	return json.UnmarshalDecode(d, (*members)(s))
}

// UnmarshalJSONFrom decodes a log. A start that is absent is not zero.
func (l *Log) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type members Log
	l.Start = absent
	return json.UnmarshalDecode(d, (*members)(l))
}
