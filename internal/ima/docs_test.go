// SPDX-License-Identifier: Apache-2.0

package ima_test

import (
	"crypto/sha1"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
)

var update = flag.Bool("update", false, "write the example of a list in docs/measurements.md again")

// TestDocumentation: the list that docs/measurements.md shows leads to the values beside it. The verifier
// in Python computes them too (test/reader).
func TestDocumentation(t *testing.T) {
	const page, begin, end = "../../docs/measurements.md", "<!-- list of IMA: begin -->\n```\n", "```\n<!-- list of IMA: end -->"
	banks := []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384}
	r := ima.NewReplay(banks...)
	var want strings.Builder
	for i, b := range [][]byte{
		evidencetest.IMAEntry("ima-ng", evidencetest.IMADigest("sha256", pcr.SHA256.Sum(make([]byte, 10*32))), evidencetest.IMAName(ima.AggregateName)),
		evidencetest.IMAEntry("ima-sig", evidencetest.IMADigest("sha256", pcr.SHA256.Sum([]byte("hello world"))), evidencetest.IMAName("/usr/bin/billing"), nil),
		evidencetest.IMAViolation("/var/log/billing.log"),
		evidencetest.IMAOld(sha1.Sum([]byte("1.2")), "/usr/lib/billing/current"),
	} {
		fmt.Fprintf(&want, "entry %d\n    %x\n", i, b)
		for e, err := range ima.Entries(ima.Whole(b)) {
			if err != nil {
				t.Fatal(err)
			}
			r.Extend(e)
		}
	}
	for _, bank := range banks {
		fmt.Fprintf(&want, "%s\n    %x\n", bank, r.Value(bank, ima.Own))
		if bank != pcr.SHA1 {
			fmt.Fprintf(&want, "%s before Linux 5.8\n    %x\n", bank, r.Value(bank, ima.Padded))
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks around the example are missing")
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want.String() {
		t.Errorf("the page has\n%s\nwant\n%s\nrun go test ./internal/ima -run TestDocumentation -update", got, want.String())
	}
}
