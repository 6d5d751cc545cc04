// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// newest returns the entry of each key with the highest generation, in order. What this
// machine or the store key vouches for goes before what any party may have written.
func (r *recovering) newest(found []sealing.Entry) []sealing.Entry {
	doubt := func(e sealing.Entry) int {
		if r.unproven[e.ID] {
			return 1
		}
		return 0
	}
	slices.SortFunc(found, func(a, b sealing.Entry) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(doubt(a), doubt(b)), cmp.Compare(b.Generation, a.Generation))
	})
	return slices.CompactFunc(found, func(a, b sealing.Entry) bool { return a.Key == b.Key })
}

// identify opens the blob in a file that no manifest describes. If it does not open, the
// entry has only the key that the file claims.
func (s *Store) identify(file string, open opener) (e sealing.Entry, h *sealing.Header, err error) {
	b, err := s.readBlob(file)
	if err != nil {
		return e, nil, err
	}
	h = &b.Claimed
	e.Key = h.Key()
	if blobFile(h.ID) != file || h.Kind == sealing.KindManifest {
		return e, nil, &sealing.Error{Code: api.CodeRenamed, Detail: fmt.Sprintf("%s contains blob %s", file, h.ID)}
	}
	payload, err := open(b)
	if err != nil {
		return e, nil, err
	}
	defer payload.Wipe()
	return entryOf(h, payload.Len()), h, nil
}

// String lists the report in a line.
func (r Report) String() string {
	if len(r.Kept) == 0 {
		return fmt.Sprintf("%d written", r.Written)
	}
	var kept []string
	for _, k := range r.Kept {
		kept = append(kept, fmt.Sprintf("%s %s %q: %v", k.App, k.Kind, k.Name, sealing.CodeOf(k.Err)))
	}
	return fmt.Sprintf("%d written, %d kept as they are: %s", r.Written, len(r.Kept), strings.Join(kept, "; "))
}
