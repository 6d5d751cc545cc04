// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestAzure: the certificates of the metadata service come as PEM, the chip's first. Everything
// else is an error, and nothing of it is written.
func TestAzure(t *testing.T) {
	p, err := soft.New(soft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	i, err := p.Intermediate()
	if err != nil {
		t.Fatal(err)
	}
	text := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	answer := func(vcek, chain string) string {
		b, err := json.Marshal(map[string]string{"vcekCert": vcek, "certificateChain": chain, "tcbm": "DB18000000000004", "cacheControl": "86400"})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	leaf, chain := text(p.Endorsement()), text(i.Raw)
	for _, c := range []struct {
		name, answer string
		status       int
		ok           bool
	}{
		{"good", answer(leaf, chain), 200, true},
		{"no chip", answer("", chain), 200, false},
		{"no chain", answer(leaf, ""), 200, false},
		{"two chips", answer(leaf+leaf, chain), 200, false},
		{"not JSON", leaf, 200, false},
		{"a page", "<html>", 200, false},
		{"twice", strings.Replace(answer(leaf, chain), "{", `{"vcekCert":"",`, 1), 200, false},
		{"too large", answer(leaf, chain+strings.Repeat(" ", maxAzure)), 200, false},
		{"refused", "", 400, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != azurePath || r.Header.Get("Metadata") != "true" {
					t.Errorf("asked for %s with %v", r.URL, r.Header)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.answer))
			}))
			defer s.Close()
			b, err := (&Client{Base: s.URL}).Azure(t.Context())
			if (err == nil) != c.ok {
				t.Fatalf("got %v", err)
			}
			ders, err := snp.DecodeCertificates(b)
			if c.ok && (err != nil || len(ders) != 2) {
				t.Errorf("%d certificates, %v", len(ders), err)
			}
		})
	}
}

// FuzzAzure: an answer is refused, or leads to PEM that is read again.
func FuzzAzure(f *testing.F) {
	f.Add([]byte(`{"vcekCert":"","certificateChain":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, leaf, err := azureCertificates(b)
		if err != nil {
			return
		}
		if ders, err := snp.DecodeCertificates(out); err != nil || len(ders) < 2 || leaf == nil {
			t.Errorf("%d certificates, %v, %v", len(ders), leaf, err)
		}
	})
}
