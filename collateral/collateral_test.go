// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// service is the key distribution service on loopback, for one processor line.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string
	answers map[string][]byte
	faults  map[string]http.HandlerFunc // by the end of the path
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.RequestURI())
	fault, answer := s.faults[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]], s.answers[r.URL.RequestURI()]
	s.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, r)
	case answer == nil:
		http.NotFound(w, r)
	default:
		w.Write(answer)
	}
}

const chipHex = "63636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"

func newService(t *testing.T) *service {
	s := &service{answers: map[string][]byte{}, faults: map[string]http.HandlerFunc{}}
	r := evidencetest.New().Report
	certs := r.CertificatesNamed(t, "SEV-VCEK", "SEV-Genoa")
	s.answers["/vcek/v1/Genoa/"+chipHex+"?blSPL=9&teeSPL=3&snpSPL=23&ucodeSPL=72"] = certs[0]
	var chain []byte
	for _, der := range certs[1:] {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	s.answers["/vcek/v1/Genoa/cert_chain"] = chain
	s.answers["/vcek/v1/Genoa/crl"] = evidencetest.RevocationList(t, snp.Genoa, evidencetest.Time.AddDate(0, -1, 0), evidencetest.Time.AddDate(0, 1, 0)).Bytes()
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// bare is good evidence without certificates, and its report.
func bare(t *testing.T) ([]byte, *snp.Report) {
	r := evidencetest.New()
	r.Report.NoCertificates = true
	e := r.Build(t)
	report, err := snp.ParseReport(e.Report.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	document, err := strictjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return document, report
}

func chipTCB(t *testing.T) snp.TCB {
	_, r := bare(t)
	return r.ReportedTCB
}

// TestFetchThenVerify: what was fetched is what a verifier without certificates lacks,
// and nothing is asked for twice.
func TestFetchThenVerify(t *testing.T) {
	s := newService(t)
	document, report := bare(t)
	cache := New(Folder(filepath.Join(t.TempDir(), "new")), Client{Base: s.URL})
	if c, err := cache.For(t.Context(), report); err != nil || len(c.Certificates)+len(c.Revocation) > 0 {
		t.Errorf("a folder that does not exist contains %v, %v", c, err)
	}
	policy, err := verify.ParsePolicy([]byte("version = 1\nunlisted_launch = \"allow\"\nrevocation = \"required\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	appraise := func() *verify.Appraisal {
		config := verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}}
		c, err := cache.For(t.Context(), report)
		if err != nil {
			t.Fatal(err)
		}
		config.Revocation.SNP = c.Revocation
		v, err := verify.New(policy, config)
		if err != nil {
			t.Fatal(err)
		}
		a, err := v.Appraise(document, verify.Expect{Nonce: evidencetest.Nonce, Certificates: c.Certificates}, evidencetest.Time)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := appraise(); a.Class != verify.ClassCollateral {
		t.Errorf("without collateral: class %v", a.Class)
	}
	for round, kept := range []bool{false, true} {
		done, err := cache.Fetch(t.Context(), report, snp.ProductUnknown, evidencetest.Time)
		if err != nil || len(done) != 3 {
			t.Fatalf("%+v, %v", done, err)
		}
		for _, f := range done {
			if f.Kept != kept && !strings.HasSuffix(f.File, ".crl") {
				t.Errorf("round %d: %+v", round, f)
			}
		}
	}
	if n := len(s.requests()); n > 4 {
		t.Errorf("%d requests: %v", n, s.requests())
	}
	if a := appraise(); a.Verdict != verify.Pass {
		t.Errorf("with collateral: %v", a.Sentences)
	}
}

// logIn answers with a page that is longer than any certificate.
func logIn(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write([]byte("<!DOCTYPE html><title>Please log in</title>" + strings.Repeat("x", 2<<20)))
}

// loginPage reports whether err names the host and says what is in between.
func loginPage(err error) bool {
	x, ok := errors.AsType[*PageError](err)
	return ok && strings.Contains(x.Error(), "127.0.0.1:") && strings.Contains(x.Error(), "web page") && strings.Contains(x.Error(), todoBetween)
}

// TestFailures: case 59. Each is told apart, nothing is asked twice, and what came
// before it is kept.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name, path, message string
		fault               http.HandlerFunc
		check               func(error) bool
		kept                int
	}{
		{name: "case 59 throttled", path: "cert_chain", message: "ask again in 10s", kept: 1,
			fault: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "10"); w.WriteHeader(429) },
			check: func(err error) bool {
				var x *ThrottledError
				return errors.As(err, &x) && x.RetryAfter == 10*time.Second
			}},
		{name: "throttled without a time", path: chipHex, message: "429", fault: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }},
		{name: "not there", path: chipHex, message: "404", fault: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
			check: func(err error) bool { var x *StatusError; return errors.As(err, &x) && x.Status == 404 }},
		{name: "redirect", path: chipHex, message: "302", fault: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }},
		{name: "no end", path: "crl", message: "more than 1048576 bytes", kept: 2, fault: func(w http.ResponseWriter, r *http.Request) {
			for block := make([]byte, 64<<10); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}},
		{name: "no answer", path: chipHex, message: "no answer within", fault: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{name: "stalls", path: chipHex, message: "did not end within", fault: func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte{0x30})
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
		{name: "garbage for a certificate", path: chipHex, message: "endorsement key certificate", fault: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("garbage")) }},
		{name: "garbage for a chain", path: "cert_chain", message: "answered with", kept: 1, fault: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("garbage")) }},
		{name: "garbage for a list", path: "crl", message: "revocation list", kept: 2, fault: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("garbage")) }},
		{name: "login page for a certificate", path: chipHex, message: "127.0.0.1", check: loginPage, fault: logIn},
		{name: "login page for a chain", path: "cert_chain", message: "a login page in between", kept: 1, check: loginPage, fault: logIn},
		{name: "login page for a list", path: "crl", message: "a login page in between", kept: 2, check: loginPage, fault: logIn},
		{name: "login page without a type", path: chipHex, message: "a login page in between", check: loginPage, fault: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write([]byte("\r\n<?xml version=\"1.0\"?><html>"))
		}},
		{name: "sent to a login", path: chipHex, message: "https://login.example.net/", fault: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example.net/", http.StatusFound)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := 2 * time.Minute
			if strings.Contains(c.message, "within") {
				timeout = 200 * time.Millisecond
			}
			_, report := bare(t)
		again:
			s := newService(t)
			s.faults[c.path] = c.fault
			folder := t.TempDir()
			cache := New(Folder(folder), Client{Base: s.URL, Timeout: timeout})
			done, err := cache.Fetch(t.Context(), report, snp.ProductUnknown, evidencetest.Time)
			if c.name == "stalls" && err != nil && strings.Contains(err.Error(), "no answer within") && timeout < time.Minute {
				timeout *= 4 // a busy machine did not even bring its first byte in time
				goto again
			}
			if err == nil || !strings.Contains(err.Error(), c.message) {
				t.Fatalf("got %v, want %q", err, c.message)
			}
			if c.check != nil && !c.check(err) {
				t.Errorf("the error is a %T: %v", err, err)
			}
			if len(done) != c.kept || len(s.requests()) != c.kept+1 {
				t.Errorf("kept %v of the requests %v, want %d", done, s.requests(), c.kept)
			}
			left, err := os.ReadDir(folder)
			if err != nil || len(left) != c.kept {
				t.Errorf("the cache contains %v, want %d files", left, c.kept)
			}
		})
	}
}

// TestAnotherCertificate: what the service answers is compared with what was asked.
func TestAnotherCertificate(t *testing.T) {
	for name, change := range map[string]func(*evidencetest.Report){
		"TCB":  func(r *evidencetest.Report) { r.Leaf.Levels[7]++ },
		"chip": func(r *evidencetest.Report) { r.Leaf.HWID = bytes.Repeat([]byte{0x64}, 64) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			r := evidencetest.New().Report
			change(&r)
			s.answers["/vcek/v1/Genoa/"+chipHex+"?blSPL=9&teeSPL=3&snpSPL=23&ucodeSPL=72"] = r.CertificatesNamed(t, "SEV-VCEK", "SEV-Genoa")[0]
			_, err := (&Client{Base: s.URL}).VCEK(t.Context(), snp.Genoa, evidencetest.ChipID, chipTCB(t))
			if err == nil || !strings.Contains(err.Error(), "which was not asked for") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAddressOnce: an error of the connection names the address once, and not the method.
func TestAddressOnce(t *testing.T) {
	loop := httptest.NewServer(http.RedirectHandler("/", http.StatusFound))
	defer loop.Close()
	encrypted := httptest.NewTLSServer(http.NotFoundHandler()) // under no root that this machine trusts
	defer encrypted.Close()
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, base := range []string{loop.URL, encrypted.URL, closed.URL} {
		c := Client{Base: base}
		_, err := c.Chain(t.Context(), snp.Milan, snp.SignerVCEK)
		if err == nil || strings.Contains(err.Error(), `Get "`) || strings.Count(err.Error(), base) != 1 {
			t.Errorf("%s: %v", base, err)
		}
	}
}

// TestAddresses: the two layouts of the interface specification.
func TestAddresses(t *testing.T) {
	chip := bytes.Repeat([]byte{0xab}, 64)
	for _, c := range []struct {
		product snp.Product
		chip    []byte
		tcb     snp.TCB
		want    string
	}{
		{snp.Milan, chip, 0xd315000000000004, "/vcek/v1/Milan/" + strings.Repeat("ab", 64) + "?blSPL=4&teeSPL=0&snpSPL=21&ucodeSPL=211"},
		{snp.Turin, chip, 0x4800000004010203, "/vcek/v1/Turin/abababababababab?fmcSPL=3&blSPL=2&teeSPL=1&snpSPL=4&ucodeSPL=72"},
		{snp.Turin, chip[:8], 0, "/vcek/v1/Turin/abababababababab?fmcSPL=0&blSPL=0&teeSPL=0&snpSPL=0&ucodeSPL=0"},
		{snp.Genoa, chip[:63], 0, ""},
		{snp.Genoa, make([]byte, 64), 0, ""},
		{snp.ProductUnknown, chip, 0, ""},
	} {
		got, err := vcekPath(c.product, c.chip, c.tcb)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%v: got %q, %v\nwant %q", c.product, got, err, c.want)
		}
	}
	for _, base := range []string{"ftp://a", "a", "", "https://u@h", "https://h?q=1", "https://\x00"} {
		if a, err := join(base, "/x"); err == nil {
			t.Errorf("%q gives %q", base, a)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "10": 10 * time.Second, "-5": 0, "x": 0, "999999999": longest, "99999999999999999999": 0,
		"Thu, 01 Jan 2026 00:00:30 GMT": 30 * time.Second, "Wed, 31 Dec 2025 00:00:00 GMT": 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// TestMaskedChip: nothing is asked for a chip that the host hides.
func TestMaskedChip(t *testing.T) {
	s := newService(t)
	_, report := bare(t)
	report.ChipID = [64]byte{}
	_, err := New(Folder(t.TempDir()), Client{Base: s.URL}).Fetch(t.Context(), report, snp.ProductUnknown, evidencetest.Time)
	if err == nil || !strings.Contains(err.Error(), "masks") || len(s.requests()) != 0 {
		t.Errorf("got %v after %v", err, s.requests())
	}
	report.CPU = nil
	if _, err := New(Folder(t.TempDir()), Client{Base: s.URL}).Fetch(t.Context(), report, snp.ProductUnknown, evidencetest.Time); !errors.Is(err, ErrProduct) {
		t.Errorf("got %v for a report without a product", err)
	}
	for _, p := range snp.Products() {
		if _, err := vcekPath(p, make([]byte, 64), 0); err == nil || strings.Contains(err.Error(), "bytes") {
			t.Errorf("%v: a masked id is called a short one: %v", p, err)
		}
		if _, err := vcekPath(p, []byte{1, 2}, 0); err == nil || !strings.Contains(err.Error(), "2 bytes") {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// TestBrokenCache: a file that cannot be what its name says is an error, not an absence.
func TestBrokenCache(t *testing.T) {
	_, report := bare(t)
	for _, name := range []string{"genoa-vcek.crl", "genoa-vcek-chain.pem"} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, name), []byte("no"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Folder(folder), Client{}).For(t.Context(), report); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Folder(file), Client{}).For(t.Context(), report); err == nil {
		t.Error("a file was taken for a folder")
	}
	if _, err := OpenFolder(file); err == nil {
		t.Error("a file was opened as a folder")
	}
	if _, err := OpenFolder(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a folder that does not exist was opened")
	}
}
