// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
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
func (l *Banks) UnmarshalJSONFrom(d *jsontext.Decoder) error { return DecodeList(d, l, MaxBanks) }

// UnmarshalJSONFrom reads at most MaxPCRs registers.
func (l *Registers) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return decodeList(d, l, MaxPCRs, PCR{Index: absent32})
}

// UnmarshalJSONFrom reads at most MaxProof digests.
func (l *Path) UnmarshalJSONFrom(d *jsontext.Decoder) error { return DecodeList(d, l, MaxProof) }

// UnmarshalJSONFrom reads at most MaxCertificates certificates.
func (l *Certificates) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return DecodeList(d, l, MaxCertificates)
}

// DecodeList reads an array of at most most elements into l, for a method
// UnmarshalJSONFrom. The error for one more is a [*SizeError], wrapped with its place.
func DecodeList[L ~[]E, E any](d *jsontext.Decoder, l *L, most int) error {
	return decodeList(d, l, most, *new(E))
}

// decodeList is DecodeList where an element is blank before it is read.
func decodeList[L ~[]E, E any](d *jsontext.Decoder, l *L, most int, blank E) error {
	if d.PeekKind() != '[' {
		return errors.ErrUnsupported // the decoder says what it is instead
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	out := L{}
	for d.PeekKind() != ']' {
		if len(out) == most {
			return &SizeError{Part: "list", Got: most + 1, Max: most}
		}
		out = append(out, blank)
		if err := json.UnmarshalDecode(d, &out[len(out)-1]); err != nil {
			return err
		}
	}
	*l = out
	_, err := d.ReadToken()
	return err
}
