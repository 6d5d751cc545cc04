// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// serveKDS is "kds DIR EVIDENCE": a key distribution service on loopback for the machine
// in DIR, with the certificates in its evidence. $KDS is its address. Requests
// below $KDS/throttled are answered with 429, those below $KDS/gone with 404.
func serveKDS(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: kds DIR EVIDENCE")
	}
	e, err := evidence.Parse([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	var ders [][]byte
	for _, c := range e.Certificates {
		ders = append(ders, c)
	}
	leaves, issuers, _ := snp.SortCertificates(ders)
	if len(leaves) == 0 || len(issuers) < 2 {
		ts.Fatalf("the evidence has %d endorsement keys and %d issuers", len(leaves), len(issuers))
	}
	var chain []byte
	for _, c := range issuers[:2] {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	authority, err := soft.OpenAuthority(filepath.Join(ts.MkAbs(args[0]), "platform"))
	ts.Check(err)
	now := time.Now()
	crl, err := authority.RevocationList(leaves[0].Product, now.AddDate(0, 0, -1), now.AddDate(0, 0, 1))
	ts.Check(err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/throttled/"):
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.HasPrefix(r.URL.Path, "/gone/"):
			http.NotFound(w, r)
		case strings.HasSuffix(r.URL.Path, "/cert_chain"):
			w.Write(chain)
		case strings.HasSuffix(r.URL.Path, "/crl"):
			w.Write(crl)
		default:
			w.Write(leaves[0].Certificate.Raw)
		}
	}))
	ts.Defer(s.Close)
	ts.Setenv("KDS", s.URL)
}

// serveTHIM is "thim EVIDENCE": the metadata service of Azure on loopback, with the certificates in
// the evidence. $THIM is its address.
func serveTHIM(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: thim EVIDENCE")
	}
	e, err := evidence.Parse([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	var leaf, chain string
	for _, c := range e.Certificates {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
		if _, err := snp.ParseEndorsementKey(c); err == nil {
			leaf = text
		} else {
			chain += text
		}
	}
	answer, err := json.Marshal(map[string]string{"vcekCert": leaf, "certificateChain": chain})
	ts.Check(err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Write(answer)
	}))
	ts.Defer(s.Close)
	ts.Setenv("THIM", s.URL)
}

// strip is "strip FROM TO": evidence without its certificates.
func strip(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: strip FROM TO")
	}
	e, err := evidence.Parse([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	e.Certificates = nil
	b, err := strictjson.Encode(e)
	ts.Check(err)
	writeFile(ts, args[1], b)
}

// reportOf is "report FROM TO": the bare report in evidence.
func reportOf(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: report FROM TO")
	}
	e, err := evidence.Parse([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	writeFile(ts, args[1], e.Report.Bytes)
}
