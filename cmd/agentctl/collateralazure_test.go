// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// metadata is a double of Azure's metadata service, for one processor.
type metadata struct {
	*httptest.Server
	platform *soft.Platform
	instead  atomic.Pointer[http.HandlerFunc] // of the right answer
}

// processor returns a software platform with a chip of its own.
func processor(t *testing.T, o soft.Options) *soft.Platform {
	t.Helper()
	p, err := soft.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newMetadata(t *testing.T) *metadata {
	t.Helper()
	m := &metadata{platform: processor(t, soft.Options{})}
	answer := thim(t, m.platform)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metadata/THIM/amd/certification" || r.Header.Get("Metadata") != "true" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
		if f := m.instead.Load(); f != nil {
			(*f)(w, r)
			return
		}
		w.Write(answer)
	}))
	t.Cleanup(m.Close)
	return m
}

// thim is what the service answers for a processor.
func thim(t *testing.T, p *soft.Platform) []byte {
	t.Helper()
	i, err := p.Intermediate()
	if err != nil {
		t.Fatal(err)
	}
	text := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	b, err := json.Marshal(map[string]string{"vcekCert": text(p.Endorsement()), "certificateChain": text(i.Raw), "cacheControl": "86400"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reportFile writes a report of p, and returns its path.
func reportFile(t *testing.T, p *soft.Platform) string {
	t.Helper()
	b, err := p.ReportAt([64]byte{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder(t, map[string][]byte{"report.bin": b}), "report.bin")
}

// fetch runs the command against m.
func (m *metadata) fetch(t *testing.T, dir string, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	return agentctl(t, append([]string{"collateral", "fetch", "--azure", "--dir", dir, "--kds", m.URL}, more...)...)
}

// TestFetchAzure: certificates are written once, and kept if they are the same.
func TestFetchAzure(t *testing.T) {
	m := newMetadata(t)
	dir := filepath.Join(t.TempDir(), "certs")
	file := reportFile(t, m.platform)
	for _, word := range []string{"fetched", "present"} {
		code, stdout, stderr := m.fetch(t, dir, "--snp-report", file)
		if code != exitOK || stdout != word+"  "+filepath.Join(dir, "azure.pem")+"\n" || stderr != "" {
			t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "azure.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if ders, err := snp.DecodeCertificates(b); err != nil || len(ders) != 2 {
		t.Errorf("%d certificates, %v", len(ders), err)
	}
	if code, stdout, _ := m.fetch(t, dir, "--json"); code != exitOK || !strings.Contains(stdout, `"kept":true`) && !strings.Contains(stdout, `"kept": true`) {
		t.Errorf("exit code %d, %s", code, stdout)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the folder has %v, %v", left, err)
	}
}

// TestFetchAzureFails: whatever answers in place of the service, or not as it should: the error
// names the host and what to do, and nothing is written. Case 143.
func TestFetchAzureFails(t *testing.T) {
	endless := func(block string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write([]byte(strings.Repeat(block, 4096))); err != nil {
					return
				}
			}
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(s)) }
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	m := newMetadata(t)
	others := processor(t, soft.Options{})
	const onAzure = "only a confidential machine of Azure"
	for name, c := range map[string]struct {
		instead http.HandlerFunc
		more    []string
		says    string
		hint    string
	}{
		"garbage":          {text("\x00\xff garbage"), nil, "answered with", onAzure},
		"empty":            {text(""), nil, "answered with", onAzure},
		"another document": {text(`{"error":"no such thing"}`), nil, "malformed certificate", onAzure},
		"login page":       {text("<!DOCTYPE html><title>Log in</title>"), nil, "a login page in between", onAzure},
		"redirect":         {http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, nil, "sends to", onAzure},
		"not there":        {status(404), nil, "404", onAzure},
		"not allowed":      {status(403), nil, "403", onAzure},
		"throttled":        {status(429), nil, "429", "wait ten seconds"},
		"not ready":        {status(503), nil, "503", "in a minute"},
		"endless":          {endless("aaaa"), nil, "more than 65536 bytes", onAzure},
		"endless page":     {endless("<p>a"), nil, "a web page", onAzure},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 256<<10))
			w.Write([]byte("{}"))
		}, nil, "exceeded", onAzure},
		"no answer": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []string{"--timeout", "100ms"}, "within 100ms", onAzure},
		"stalls": {func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("{"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, []string{"--timeout", "100ms"}, "within 100ms", onAzure},
		"another chip":      {nil, []string{"--snp-report", reportFile(t, others)}, "another chip", "moved to another processor"},
		"another TCB":       {nil, []string{"--snp-report", reportFile(t, processor(t, soft.Options{TCB: m.platform.Options().TCB - 1, MaskChipID: true}))}, "another TCB", "moved to another processor"},
		"another processor": {nil, []string{"--snp-report", reportFile(t, processor(t, soft.Options{Product: snp.Genoa}))}, "of a processor", "moved to another processor"},
		"a VLEK's report":   {nil, []string{"--snp-report", reportFile(t, processor(t, soft.Options{Signer: snp.SignerVLEK, CSPID: "cloud"}))}, "signed by a VLEK", "moved to another processor"},
	} {
		t.Run(name, func(t *testing.T) {
			m.instead.Store(nil)
			if c.instead != nil {
				m.instead.Store(&c.instead)
			}
			dir := filepath.Join(t.TempDir(), "certs")
			begin := time.Now()
			code, stdout, stderr := m.fetch(t, dir, c.more...)
			if code != 3 || stdout != "" || !strings.Contains(stderr, c.says) || !strings.Contains(stderr, "hint: ") || !strings.Contains(stderr, c.hint) {
				t.Errorf("after %v: exit code %d, %q, %q", time.Since(begin), code, stdout, stderr)
			}
			if host := strings.TrimPrefix(m.URL, "http://"); !strings.Contains(stderr, host) {
				t.Errorf("the host %s is not in %q", host, stderr)
			}
			if len(stderr) > 2000 {
				t.Errorf("%d bytes of error", len(stderr))
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("something was written")
			}
		})
	}
}

// TestUnitFetches: the command of the unit is one of this program.
func TestUnitFetches(t *testing.T) {
	b, err := os.ReadFile("../../systemd/agentd-azure.service")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "\nExecStart=/usr/bin/agentctl ")
	line, _, _ := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("the unit is %s", b)
	}
	m, dir := newMetadata(t), t.TempDir()
	args := strings.Fields(strings.Replace(line, "/etc/agentd/certs", dir, 1))
	code, stdout, stderr := agentctl(t, append(args, "--kds", m.URL, "--admin", filepath.Join(dir, "none"))...)
	if code != exitOK || stdout != "fetched  "+filepath.Join(dir, azureFile)+"\n" || !strings.Contains(stderr, "when it starts") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// TestFetchAzureMisuse: what the command refuses before it asks.
func TestFetchAzureMisuse(t *testing.T) {
	m := newMetadata(t)
	refuse := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it asked") })
	m.instead.Store(&refuse)
	for _, c := range []struct {
		more []string
		says string
	}{
		{[]string{"--timeout", "0s"}, "--timeout"}, {[]string{"--kds", "nowhere"}, "--kds"}, {[]string{"--product", "rome"}, "--product"},
		{[]string{"--azure=false", "--reload", "e.json"}, "--reload belongs to --azure"},
	} {
		args := append([]string{"collateral", "fetch", "--dir", t.TempDir()}, c.more...)
		if c.says != "--reload belongs to --azure" {
			args = append(args, "--azure")
		}
		if code, _, stderr := agentctl(t, args...); code != exitMisuse || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit code %d, %q", c.more, code, stderr)
		}
	}
}

// TestFetchAzureReloads: the agent reads its certificates again if they changed, and until it did.
// An agent that does not run is not needed.
func TestFetchAzureReloads(t *testing.T) {
	m := newMetadata(t)
	socket := filepath.Join(t.TempDir(), "admin.sock")
	t.Chdir(filepath.Dir(socket)) // a relative path is found too
	var asked, refuses atomic.Int32
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1); r.URL.Path != api.CallReload.Path || refuses.Load() > 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Write([]byte(`{"apps":{"declared":1},"errors":[{"source":"a.toml","reason":"a.toml: broken"}]}`))
	})}
	go server.Serve(l)
	dir := filepath.Join(t.TempDir(), "certs")
	due := filepath.Join(dir, azureDue)
	for _, step := range []struct {
		name    string
		refuses int32
		code    int
		asked   int32 // in this step
		due     bool
		says    string
		before  func()
	}{
		{"the agent fails", 1, exitUnavailable, 1, true, "the agent has not read them", nil},
		{"it works again", 0, exitOK, 1, false, "a.toml: broken", nil},
		{"nothing changed", 0, exitOK, 0, false, "", nil},
		{"the file was lost", 0, exitOK, 1, false, "a.toml: broken", func() { os.Remove(filepath.Join(dir, azureFile)) }},
		{"the agent is stopped", 0, exitOK, 0, false, "when it starts", func() { server.Close(); os.Remove(filepath.Join(dir, azureFile)) }},
	} {
		if step.before != nil {
			step.before()
		}
		refuses.Store(step.refuses)
		asked.Store(0)
		code, stdout, stderr := m.fetch(t, dir, "--reload", "--admin", filepath.Base(socket))
		if (code == exitOK) != (step.code == exitOK) || asked.Load() != step.asked || !strings.Contains(stderr, step.says) || step.says == "" && stderr != "" {
			t.Errorf("%s: exit code %d, asked %d times, %q, %q", step.name, code, asked.Load(), stdout, stderr)
		}
		if _, err := os.Stat(due); (err == nil) != step.due {
			t.Errorf("%s: a reload is due: %v", step.name, err)
		}
	}
}
