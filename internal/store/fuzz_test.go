// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// FuzzParseBlob: whatever is parsed is written back byte by byte, and nothing that is
// altered opens. The checksums are made right, so that the fuzzer gets past them.
func FuzzParseBlob(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "sealing", "testdata", "worked-example.sealed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(nil))
	f.Add([]byte("agentd/sealed/2\n"))
	for _, content := range loadV1(f).Files {
		f.Add(content)
	}
	m := newExampleMachine()
	f.Fuzz(func(t *testing.T, b []byte) {
		try := func(b []byte) {
			blob, err := sealing.ParseBlob(b)
			if err != nil {
				if sealing.CodeOf(err) == "" {
					t.Errorf("error without a code: %v", err)
				}
				return
			}
			if !bytes.Equal(blob.Encode(), b) {
				t.Error("two encodings of one blob")
			}
			_ = blob.Claimed.Contract().Text()
			if s, err := store.OpenBlob(t.Context(), m, m, m, blob); err == nil {
				s.Wipe()
				if !bytes.Equal(b, raw) {
					t.Error("an altered blob opened")
				}
			}
		}
		try(b)
		if len(b) > 24 {
			try(resum(b))
		}
	})
}

// resum makes length and checksums of b right as far as its fields can be followed.
func resum(b []byte) []byte {
	var tags []uint16
	var values [][]byte
	for rest := b[24:]; len(rest) >= 10; {
		size := int(rest[2])<<24 | int(rest[3])<<16 | int(rest[4])<<8 | int(rest[5])
		size = min(size, len(rest)-10)
		tags = append(tags, uint16(rest[0])<<8|uint16(rest[1]))
		values = append(values, rest[6:6+size])
		rest = rest[10+size:]
	}
	return rebuild(tags, values)
}

// FuzzVersions: the payload of an app root is parsed strictly.
func FuzzVersions(f *testing.F) {
	f.Add(exampleAppRoot)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > secret.MaxSize {
			return
		}
		s, err := secret.Take(bytes.Clone(b))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Wipe()
		list, err := store.Versions(s)
		if err != nil {
			return
		}
		for _, v := range list {
			out, err := store.DeriveFrom(s, billing.App, v, nil, 32)
			if err != nil {
				t.Fatal(err)
			}
			out.Wipe()
		}
	})
}
