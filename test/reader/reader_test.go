// SPDX-License-Identifier: Apache-2.0

package reader

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fewest is the number of cases that the reader must have judged and agreed on.
const fewest = 500

// python returns an interpreter that has the module cryptography. Without one the test skips: on
// the path there may be another Python than that of the distribution.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "-c", "import cryptography").Run() == nil {
			return path
		}
	}
	t.Skip("no python3 with the module cryptography: install python3 and python3-cryptography")
	return ""
}

// look asks for the state of every file that the reader opens. Otherwise go test would not see
// that one of them changed, and would repeat an old result.
func look(t *testing.T, root string) {
	t.Helper()
	for _, pattern := range []string{
		"test/reader/*.py", "docs/evidence.md", "docs/measurements.md", "docs/example/*",
		"evidence/testdata/*.json", "pcr/testdata/*.cel", "internal/corpus/cases/*", "verify/snp/roots/*.pem",
	} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("find %s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			if _, err := os.Stat(file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReaderAgrees runs the reader over all cases of the corpus, the worked example, the example of
// a log, and the document that is accepted.
func TestReaderAgrees(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	look(t, root)
	// -B: the source tree gets no compiled files.
	out, err := exec.Command(python(t), "-B", "main.py", root).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		t.Fatalf("run the reader: %v\n%s", err, text)
	}
	last := text[strings.LastIndexByte(text, '\n')+1:]
	var agreed, disagreed, raw int
	if _, err := fmt.Sscanf(last, "agreed %d, disagreed %d, raw material %d", &agreed, &disagreed, &raw); err != nil {
		t.Fatalf("read the last line of the reader, %q: %v", last, err)
	}
	if disagreed != 0 || agreed < fewest {
		t.Errorf("the reader agreed on %d cases, want at least %d and no other:\n%s", agreed, fewest, text)
	}
	t.Log(last)
}
