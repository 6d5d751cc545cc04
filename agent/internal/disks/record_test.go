// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// TestRecord: each record that is cut off, or has one byte more, is refused; no flip of a bit makes
// reading fail in another way.
func TestRecord(t *testing.T) {
	b := newBed(t, formatted(t))
	b.enroll()
	good := b.records.sealed["data"]
	parse := func(x []byte) (*record, error) {
		s, err := secret.Take(bytes.Clone(x))
		must(t, err)
		defer s.Wipe()
		return parseRecord(s)
	}
	r, err := parse(good)
	must(t, err)
	again, err := r.encode()
	must(t, err)
	must(t, again.Use(func(x []byte) error {
		if !bytes.Equal(x, good) {
			t.Error("a record is written in another way than it was read")
		}
		return nil
	}))
	again.Wipe()
	r.wipe()
	for n := range good {
		if x, err := parse(good[:n]); err == nil {
			x.wipe()
			t.Fatalf("a record of %d bytes of %d is accepted", n, len(good))
		}
	}
	if _, err := parse(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a record with one byte more is accepted")
	}
	for at := range good {
		x := bytes.Clone(good)
		x[at] ^= 0x81
		if r, err := parse(x); err == nil {
			r.wipe()
		}
	}
}

// FuzzRecord: what is accepted is written again as it was.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{1, 0, 0, 1, '/', 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := secret.Take(bytes.Clone(b))
		if err != nil {
			t.Skip()
		}
		defer s.Wipe()
		r, err := parseRecord(s)
		if err != nil {
			return
		}
		defer r.wipe()
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		defer again.Wipe()
		if !again.Equal(s) {
			t.Fatal("a record is written in another way than it was read")
		}
	})
}
