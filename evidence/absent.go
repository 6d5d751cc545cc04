// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"math"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An integer whose zero means something is set to one of these before a document is read,
// and still is where the document does not have the member. Else a caller without a uid
// would be root, and a document would have two spellings. Neither is a value that the
// format allows.
const (
	absent   = math.MaxUint64 // beyond strictjson.MaxInteger
	absent32 = math.MaxUint32
)

// present reports whether the member of this name was read.
func present(part string, got uint64) error {
	if got == absent {
		return fmt.Errorf("%s is missing", part)
	}
	return nil
}

// UnmarshalJSONFrom reads a snapshot.
func (s *Snapshot) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type members Snapshot
	s.LogHead.Count = absent
	return json.UnmarshalDecode(d, (*members)(s))
}

// UnmarshalJSONFrom reads a log.
func (l *Log) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type members Log
	l.Start = absent
	return json.UnmarshalDecode(d, (*members)(l))
}
