// SPDX-License-Identifier: Apache-2.0

package evidence

import (
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
