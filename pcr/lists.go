// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Lists of an event. Each stops reading at its cap, because a log is read before its
// author is known.
type (
	StartValues  []StartValue    // at most one for each bank that this program knows
	Declarations []Declaration   // at most MaxDeclarations
	Manifest     []ManifestEntry // at most MaxManifest
)

// UnmarshalJSONFrom reads at most as many values as there are known banks.
func (l *StartValues) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, len(algorithms), StartValue{})
}

// UnmarshalJSONFrom reads at most MaxDeclarations declarations.
func (l *Declarations) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxDeclarations, Declaration{})
}

// UnmarshalJSONFrom reads at most MaxManifest entries.
func (l *Manifest) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxManifest, ManifestEntry{})
}
