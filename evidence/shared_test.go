// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Documents that are put together from shared parts are those that encoding each gives.
func TestSharedDocuments(t *testing.T) {
	whole, err := Parse(exampleDocument(t))
	if err != nil {
		t.Fatal(err)
	}
	fresh := *whole
	fresh.Anchor = nil
	logged := *whole
	logged.Log, logged.FirmwareLog, logged.IMA = &Log{Start: 1, Previous: Digest{1}, Records: []byte("records")}, []byte("log"), &IMA{Start: 1, Entries: []byte("entries")}
	tricky := *whole // its parts read like members
	tricky.Report.Bytes = []byte(`"statement":"AA==","inclusion":,"batch":`)
	for name, e := range map[string]Evidence{"anchored": *whole, "fresh": fresh, "with logs": logged, "tricky": tricky} {
		shared, err := e.Share()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, i := range []Inclusion{{}, {Index: 7, Path: []Digest{{1}}}, {Index: MaxBatch - 1, Path: []Digest{{1}, {2}, {3}}}} {
			for _, statement := range [][]byte{{0}, []byte(`","batch":`), bytes.Repeat([]byte{0xff}, MaxStatement)} {
				e.Statement, e.Inclusion = statement, i
				want, err := strictjson.Encode(&e)
				if err != nil {
					t.Fatal(err)
				}
				got, err := shared.Document(statement, i)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes differ from the %d of the whole encoding", name, len(got), len(want))
				}
			}
		}
		for _, statement := range [][]byte{nil, make([]byte, MaxStatement+1)} {
			if _, err := shared.Document(statement, Inclusion{}); err == nil {
				t.Errorf("%s: a statement of %d bytes is accepted", name, len(statement))
			}
		}
		if _, err := shared.Document([]byte{0}, Inclusion{Path: make(Path, MaxProof+1)}); err == nil {
			t.Errorf("%s: a proof that is too long is accepted", name)
		}
		if _, err := shared.Document([]byte{0}, Inclusion{Index: MaxBatch}); err == nil {
			t.Errorf("%s: a place after the end of a batch is accepted", name)
		}
	}
	broken := *whole
	broken.AgentKey = nil
	if _, err := broken.Share(); err == nil {
		t.Error("what the format does not allow is shared")
	}
}
