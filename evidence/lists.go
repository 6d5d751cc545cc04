// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Lists of a document. Each stops reading at its cap: an element of three bytes, as in
// "[{},{},...", takes many times as many in memory, and a document that is refused
// anyway must not cost more than its own length.
type (
	Banks        []Bank   // at most MaxBanks
	Registers    []PCR    // at most MaxPCRs
	Path         []Digest // at most MaxProof
	Certificates []Bytes  // at most MaxCertificates
)

// UnmarshalJSONFrom reads at most MaxBanks banks.
func (l *Banks) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxBanks, Bank{})
}

// UnmarshalJSONFrom reads at most MaxPCRs registers.
func (l *Registers) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxPCRs, PCR{Index: absent32})
}

// UnmarshalJSONFrom reads at most MaxProof digests.
func (l *Path) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxProof, Digest{})
}

// UnmarshalJSONFrom reads at most MaxCertificates certificates.
func (l *Certificates) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxCertificates, nil)
}
