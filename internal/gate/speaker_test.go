// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// placeholder stands in the binary of the speaker for the word that it says.
const placeholder = "a word that a test puts here, which is long enough for any"

// source is a program without libraries that says its word: it is what it says.
const source = `package main

import "os"

var word = "` + placeholder + `"

func main() { os.Stdout.WriteString(word + "\n") }
`

var built = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "speaker")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		return nil, err
	}
	c := exec.Command("go", "build", "-o", filepath.Join(dir, "speaker"), filepath.Join(dir, "main.go"))
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		return out, err
	}
	return os.ReadFile(filepath.Join(dir, "speaker"))
})

func speaker(t *testing.T) []byte {
	t.Helper()
	b, err := built()
	if err != nil {
		t.Fatalf("build a program: %v\n%s", err, b)
	}
	return b
}
