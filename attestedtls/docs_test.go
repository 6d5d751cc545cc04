// SPDX-License-Identifier: Apache-2.0

package attestedtls_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
)

// TestDocument compares docs/attested-tls.md with this package: the table of codes, and the words
// that others must write.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../docs/attested-tls.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	row := func(c attestedtls.CodeInfo) string {
		sent := map[bool]string{false: "no", true: "yes"}[c.Sent]
		return fmt.Sprintf("| `%s` | %s | %s |\n", c.Code, c.Means, sent)
	}
	var want strings.Builder
	for _, c := range attestedtls.Codes() {
		want.WriteString(row(c))
	}
	_, rest, _ := strings.Cut(text, "<!-- codes: begin -->\n| code | means | sent |\n|---|---|---|\n")
	if got, _, found := strings.Cut(rest, "<!-- codes: end -->"); !found || got != want.String() {
		t.Errorf("docs/attested-tls.md has the codes\n%s\nand the table\n%s", got, want.String())
	}
	for _, words := range []string{
		"the client offers `" + attestedtls.Protocol + "`",
		fmt.Sprintf("the %d bytes `%s`", len(attestedtls.EvidenceUserData), attestedtls.EvidenceUserData),
		"`GET " + attestedtls.EvidencePath + "`",
		"speak HTTP/2 name `" + attestedtls.ApplicationHTTP2 + "`",
		fmt.Sprintf("at most %d s,", attestedtls.DefaultTimeout/time.Second),
	} {
		if !strings.Contains(text, words) {
			t.Errorf("docs/attested-tls.md does not say %q", words)
		}
	}
}
