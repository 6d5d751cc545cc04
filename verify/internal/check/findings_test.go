// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// TestTextIsCut: at the end of the way, whatever a check says of a document.
func TestTextIsCut(t *testing.T) {
	f := NewFindings(NewOrder([]Definition{{ID: "a.decide"}, {ID: "a.block"}, {ID: "a.skip"}}), nil)
	long := strings.Repeat("é", maxText)
	f.Decide("a.decide", false, "", long, "%s", long)
	f.Block("a.block", "%s", long)
	f.Skip("a.skip", "%s", long)
	for _, c := range f.Checks() {
		for _, s := range []string{c.Found, c.Sentence} {
			if s != "" && (len(s) > maxText+64 || !strings.HasSuffix(s, "... (cut, 4096 bytes)")) {
				t.Errorf("%s: %d bytes, ending in %q", c.ID, len(s), s[len(s)-32:])
			}
		}
	}
	reason := strings.Repeat("x", pcr.MaxReason)
	if got := cut(reason); got != reason {
		t.Error("a reason that a log may give does not fit")
	}
}
