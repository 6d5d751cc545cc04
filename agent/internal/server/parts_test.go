// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// TestParts: an answer in parts is that of one piece, whatever their sizes, and its connection
// serves the next request. The parts, which other answers share, stay as they are.
func TestParts(t *testing.T) {
	sizes := []int{0, 1, 2, 3, 511, 512, 513, 2048, 4095, 4096, 4097, 9_000, 300_000, 4 << 20, 5}
	answers := make(map[string][]byte, len(sizes)) // by nonce
	for i, size := range sizes {
		answers[fmt.Sprintf("%016d", i)] = bytes.Repeat([]byte{'a' + byte(i), '-', 'z'}, size/3+1)[:size]
	}
	f := &fake{attest: func(_ context.Context, r api.EvidenceRequest, _ evidence.Caller) ([]byte, error) {
		return answers[string(r.Nonce)], nil
	}}
	r := run(t, f, Limits{}, nil)
	c := as(r.client, 1)
	defer c.CloseIdleConnections()
	for i, size := range sizes {
		answer := answers[fmt.Sprintf("%016d", i)]
		want := bytes.Clone(answer)
		q, err := http.NewRequest(http.MethodPost, "http://agentd/v1/evidence", strings.NewReader(nonceBody(i)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Do(q)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		b, err := io.ReadAll(got.Body)
		got.Body.Close()
		if err != nil || !bytes.Equal(b, want) || !bytes.Equal(answer, want) || got.ContentLength != int64(size) {
			t.Errorf("%d bytes: %d bytes read, length %d, %v", size, len(b), got.ContentLength, err)
		}
	}
	conns := r.shares[Client].conns
	conns.mu.Lock()
	defer conns.mu.Unlock()
	if n := conns.counted; n != 1 {
		t.Errorf("%d connections, want 1 for all", n)
	}
}

// TestPartsRead reads parts in small steps, as a copy does that does not know them.
func TestPartsRead(t *testing.T) {
	for _, step := range []int{1, 2, 3, 100} {
		p := &parts{[]byte("ab"), {}, []byte("cde"), {}}
		var got []byte
		for b := make([]byte, step); ; {
			n, err := p.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
		}
		if string(got) != "abcde" {
			t.Errorf("in steps of %d: %q", step, got)
		}
	}
}
