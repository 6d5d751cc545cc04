// SPDX-License-Identifier: Apache-2.0

// Package vectors finds recordings of attestation from real machines, which are not part of
// this repository.
package vectors

import (
	"os"
	"path/filepath"
	"testing"
)

// Environment is the name of the variable for the folder of recordings.
const Environment = "ATTESTATION_VECTORS"

// Dir returns the folder of recordings: the one that [Environment] names, or
// ../shared/vectors next to the checkout. It skips the test if there is none,
// and fails it if the variable names a folder that does not exist.
func Dir(tb testing.TB) string {
	tb.Helper()
	if dir := os.Getenv(Environment); dir != "" {
		if !isDir(dir) {
			tb.Fatalf("%s names %s, which is not a folder", Environment, dir)
		}
		return dir
	}
	at, err := os.Getwd() // the folder of the package under test
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(at)
		if up == at {
			tb.Skip("no go.mod above the test: recordings cannot be found")
		}
		at = up
	}
	dir := filepath.Join(at, "..", "shared", "vectors")
	if !isDir(dir) {
		tb.Skipf("no recordings of real machines: set %s to their folder", Environment)
	}
	return dir
}

// Read returns the content of one recording, by its path below [Dir].
func Read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(Dir(tb), filepath.FromSlash(name)))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func isDir(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.IsDir()
}
