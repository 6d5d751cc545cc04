// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/sealing"
)

// passage returns which other images can open what the store holds, and when, as far as an upgrade is.
// A record that does not open says nothing: the state of the upgrade says why.
func (s *Store) passage(ctx context.Context) (out []sealing.Opener) {
	if s.manifest.Find(upgradeKey(pastName)) != nil {
		out = append(out, sealing.Opener{Who: "the image of before the upgrade", When: "launched in this folder, until `agentctl key upgrade-finish`; and wherever its own files and TPM are"})
	}
	u, unproven, err := s.record(ctx)
	switch {
	case err != nil || unproven || u.ReleaseKey == "":
	case len(u.Answered) > 0 && u.Prepared != nil:
		out = append(out, sealing.Opener{Who: fmt.Sprintf("the successor of release %d", u.Prepared.Number), When: "now: the store was handed over to it"})
	case u.Prepared != nil:
		expires := time.Unix(int64(u.Prepared.Expires), 0).UTC().Format(time.RFC3339)
		out = append(out, sealing.Opener{Who: fmt.Sprintf("one guest of release %d", u.Prepared.Number), When: "if root answers its request here until " + expires})
	default:
		out = append(out, sealing.Opener{Who: "an image of a release that the pinned key signs", When: "only if root prepares an upgrade here, and answers its request"})
	}
	return out
}
