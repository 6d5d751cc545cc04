// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"os"
	"regexp"
	"testing"
)

// TestDocumentedDeclarations parses every declaration that docs/apps.md shows.
func TestDocumentedDeclarations(t *testing.T) {
	text, err := os.ReadFile("../../../docs/apps.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 4 {
		t.Fatalf("%d declarations in docs/apps.md", len(blocks))
	}
	for _, b := range blocks {
		if _, err := Parse("example", "docs/apps.md", b[1], AnyUser()); err != nil {
			t.Errorf("%v in\n%s", err, b[1])
		}
	}
}
