// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecret: a file that another user can read is not a secret.
func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	if err := os.WriteFile(path, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o604: true, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if b, err := secret(path); (err != nil) != refused || refused && !strings.Contains(err.Error(), "chmod o=") || !refused && string(b) != "s" {
			t.Errorf("%#o: %q, %v", mode, b, err)
		}
	}
}
