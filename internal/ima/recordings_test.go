// SPDX-License-Identifier: Apache-2.0

package ima_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/pcr"
)

// encoded returns a line of a list as the kernel prints it for people in the form for programs,
// and false if that form cannot have it.
func encoded(t *testing.T, line string) ([]byte, bool) {
	t.Helper()
	w := strings.Split(line, " ")
	if len(w) < 5 || w[0] != "10" {
		t.Fatalf("%d words in %.80q", len(w), line)
	}
	name, value, ok := strings.Cut(w[3], ":")
	digest, err := hex.DecodeString(value)
	hash, err2 := hex.DecodeString(w[1])
	if !ok || err != nil || err2 != nil {
		t.Fatalf("%.80q: %v, %v", line, err, err2)
	}
	if len(hash) != 20 {
		return nil, false
	}
	fields := [][]byte{evidencetest.IMADigest(name, digest), evidencetest.IMAName(w[4])}
	if w[2] == "ima-sig" || w[2] == "ima-buf" {
		last := []byte{}
		if len(w) > 5 {
			if last, err = hex.DecodeString(w[5]); err != nil {
				t.Fatal(err)
			}
		}
		fields = append(fields, last)
	}
	b := evidencetest.IMAEntry(w[2], fields...)
	copy(b[4:], hash)
	return b, true
}

// TestRecordings: recordings of lists have the entries and lead to the values that are stated.
func TestRecordings(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(string(vectors.Read(t, "keylime_ima/expected.tsv"))), "\n")
	if len(rows) < 2 {
		t.Fatal("no rows")
	}
	for _, row := range rows[1:] {
		w := strings.Split(row, "\t")
		t.Run(w[0], func(t *testing.T) {
			var right, wrong, violations int
			var list []byte
			for _, line := range strings.Split(strings.TrimRight(string(vectors.Read(t, "keylime_ima/"+w[0])), "\n"), "\n") {
				b, ok := encoded(t, line)
				if !ok {
					wrong++
					continue
				}
				list = append(list, b...)
				for e, err := range ima.Entries(ima.Whole(b)) {
					switch {
					case err != nil:
						wrong++
						continue
					case e.Violation():
						violations++
					default:
						right++
					}
					if f, err := e.Fields(); err != nil {
						t.Errorf("%.80q: %v", line, err)
					} else if w := strings.Split(line, " "); f.Digest.String() != w[3] || f.Path != w[4] || e.Template != w[2] {
						t.Errorf("%s %s %s, want %q", e.Template, f.Digest, f.Path, w[2:5])
					}
				}
			}
			if got := fmt.Sprint(right, wrong, violations); got != strings.Join(w[2:5], " ") {
				t.Errorf("%s entries are right, wrong and violations, want %v", got, w[2:5])
			}
			if wrong > 0 {
				return
			}
			r := ima.NewReplay(pcr.SHA1, pcr.SHA256)
			for e, err := range ima.Entries(ima.Whole(list)) {
				if err != nil {
					t.Fatal(err)
				}
				r.Extend(e)
			}
			for i, bank := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256} {
				if got := hex.EncodeToString(r.Value(bank, ima.Own)); got != w[5+i] {
					t.Errorf("%s leads to %s, want %s", bank, got, w[5+i])
				}
			}
			if bytes.Equal(r.Value(pcr.SHA256, ima.Own), r.Value(pcr.SHA256, ima.Padded)) {
				t.Error("both modes lead to one value")
			}
		})
	}
}
