// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/page/pagetest"
)

// page gets a page of the administration.
func (w *worker) page(path string) (status int, media, body string) {
	w.t.Helper()
	r, err := w.alice().Get(w.admin + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.StatusCode, r.Header.Get("Content-Type"), string(b)
}

// TestPageOfRecord: an appraisal is shown as `agentctl verify --html` shows it, if it is the one that was
// recorded.
func TestPageOfRecord(t *testing.T) {
	b := newBed(t, false)
	w := b.start("one")
	w.put(b.alice(), "default", easy, "", nil) // record 1
	w.appraise("", nil)
	w.appraise("", func(r *evidencetest.Recipe) { r.Report.Body = func(b []byte) { b[evidencetest.AtVMPL] = 2 } })
	for n, verdict := range map[int]string{2: "Accepted", 3: "Refused"} {
		status, media, body := w.page(fmt.Sprintf("/admin/v1/records/%d/page", n))
		p, err := pagetest.Read([]byte(body))
		if err != nil || status != 200 || media != "text/html; charset=utf-8" {
			t.Fatalf("record %d: %d, %s, %v", n, status, media, err)
		}
		if said := p.Text; !strings.Contains(said, verdict) || !strings.Contains(said, fmt.Sprintf("record %d, policy default", n)) || !strings.Contains(body, "Content-Security-Policy") {
			t.Errorf("record %d:\n%s", n, said)
		}
	}
	for path, want := range map[string]int{"1": 404, "4": 404, "0": 400, "x": 400, "2/page?x=1": 400} {
		if !strings.Contains(path, "/") {
			path += "/page"
		}
		if status, media, _ := w.page("/admin/v1/records/" + path); status != want || media != "application/problem+json" {
			t.Errorf("%s: %d, %s, want %d", path, status, media, want)
		}
	}
	if r, err := w.client.Get(w.url + "/admin/v1/records/2/page"); err != nil || r.StatusCode != http.StatusNotFound {
		t.Errorf("over the listener of clients: %v, %v", r, err)
	} else {
		r.Body.Close()
	}

	const swap = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=60); c.execute('UPDATE bodies SET body = (SELECT body FROM bodies WHERE sequence = 2) WHERE sequence = 3'); c.commit()"
	if out, err := exec.Command("python3", "-c", swap, b.path("verifier.db")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, path := range []string{"/admin/v1/records/3/page", "/admin/v1/records/3"} {
		if status, _, body := w.page(path); status != 500 || strings.Contains(body, "ccepted") {
			t.Errorf("%s, of the appraisal of another record: %d, %s", path, status, body)
		}
	}
	if !strings.Contains(w.Output(), "another appraisal than record 3") {
		t.Errorf("the log:\n%s", w.Output())
	}
}

// TestPagesForBrowsers keeps pages of a worker in the folder AGENTD_TEST_PAGES, for a browser to open.
func TestPagesForBrowsers(t *testing.T) {
	dir := os.Getenv("AGENTD_TEST_PAGES")
	if dir == "" {
		t.Skip("keeps pages for a browser: make test-page runs this")
	}
	b := newBed(t, false)
	w := b.start("one")
	keep := func(name, path string) {
		t.Helper()
		status, media, body := w.page("/admin/v1/" + path)
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(body), 0o600); err != nil || status != 200 || !strings.HasPrefix(media, "text/html") {
			t.Fatalf("%s: %d, %s, %v", path, status, media, err)
		}
	}
	keep("fleet-empty", "fleet/page")
	w.put(b.alice(), "default", easy, "", nil) // record 1
	w.put(b.alice(), "web", easy, "", nil)     // record 2
	w.appraise("", nil)
	w.appraise("", func(r *evidencetest.Recipe) { r.AK = evidencetest.ECCKey('b') })
	w.appraise("/p/web", nil)
	w.appraise("", func(r *evidencetest.Recipe) {
		r.Report.Body = func(b []byte) { copy(b[evidencetest.AtMeasurement:], strings.Repeat("\x01", 48)) }
	})
	w.appraise("", func(r *evidencetest.Recipe) { r.Report.Body = func(b []byte) { b[evidencetest.AtVMPL] = 2 } })
	keep("fleet", "fleet/page")
	keep("fleet-selected", "fleet/page?policy=default&verdict=pass&product=genoa")
	keep("record-accepted", "records/3/page")
	keep("record-refused", "records/7/page")
}
