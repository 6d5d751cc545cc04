// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A look is a way in which a page is looked at.
type look struct {
	name, theme, media string
	width, height      int
	scale              float64
	axe                bool
}

var looks = []look{
	{"desk-light", "light", "screen", 1280, 900, 1, true},
	{"desk-dark", "dark", "screen", 1280, 900, 1, true},
	{"phone-light", "light", "screen", 375, 812, 2, true},
	{"phone-dark", "dark", "screen", 375, 812, 2, true},
	{"narrow", "light", "screen", 320, 640, 1, false},
	{"paper", "dark", "print", 800, 1100, 1, false},
}

// launch starts the browser, or skips the test.
func launch(t *testing.T) (*Chromium, context.Context) {
	t.Helper()
	program := os.Getenv("AGENTD_TEST_CHROMIUM")
	if program == "" {
		t.Skip("opens pages in Chromium: make test-page runs this")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	c, err := Start(ctx, program, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, ctx
}

// axe returns the source of axe-core; empty if there is none.
func axe(t *testing.T) string {
	t.Helper()
	name := os.Getenv("AGENTD_TEST_AXE")
	if name == "" {
		t.Log("AGENTD_TEST_AXE names no axe-core: its rules are not checked")
		return ""
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPages opens each page in each look.
func TestPages(t *testing.T) {
	c, ctx := launch(t)
	rules := axe(t)
	for _, p := range pages(t) {
		for _, l := range looks {
			t.Run(p.name+"/"+l.name, func(t *testing.T) {
				v := &visit{c, ctx, t}
				v.open(p.file, l)
				if l.axe && rules != "" {
					v.axe(rules)
				}
				v.fits()
				v.tables()
				v.printed(l.media == "print")
				v.shoot(p.name + "-" + l.name)
				if l.name == "desk-light" {
					v.keyboard()
				}
				v.silent(p.file)
			})
		}
	}
}

// TestServicePages opens the pages of agentd-verifier in the folder AGENTD_TEST_SERVICE_PAGES.
func TestServicePages(t *testing.T) {
	c, ctx := launch(t)
	files, err := filepath.Glob(filepath.Join(os.Getenv("AGENTD_TEST_SERVICE_PAGES"), "*.html"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d pages, %v: make test-page makes them", len(files), err)
	}
	rules := axe(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".html")
		for _, l := range looks {
			t.Run(name+"/"+l.name, func(t *testing.T) {
				v := &visit{c, ctx, t}
				v.open(file, l)
				if l.axe && rules != "" {
					v.axe(rules)
				}
				v.fits()
				if name != "fleet-empty" { // whose tables have no rows
					v.tables()
				}
				v.shoot(name + "-" + l.name)
				v.silent(file)
			})
		}
	}
}

// TestNoticed: what a page must not do is noticed: a script that speaks, a picture from elsewhere, text
// without contrast, and a page that is too wide.
func TestNoticed(t *testing.T) {
	c, ctx := launch(t)
	file := filepath.Join(t.TempDir(), "bad.html")
	const bad = `<!DOCTYPE html><html><body><script>console.log("hello")</script><img src="http://127.0.0.1:9/x.png"><p style="color:#ccc;background:#fff;width:9000px">pale</p></body></html>`
	must(t, os.WriteFile(file, []byte(bad), 0o600))
	v := &visit{c, ctx, t}
	v.open(file, looks[0])
	if said, loaded := v.reports(), v.loads(file); len(said) == 0 || len(loaded) != 1 {
		t.Errorf("said %q, loaded %q", said, loaded)
	}
	if inner, scroll := v.widths(); scroll <= inner {
		t.Errorf("the page is %v wide in a window of %v", scroll, inner)
	}
	if rules := axe(t); rules != "" {
		if found := v.violations(rules); len(found) < 2 {
			t.Errorf("axe finds %v", found)
		}
	}
}

// visit is one page in one look.
type visit struct {
	c   *Chromium
	ctx context.Context
	t   *testing.T
}

func (v *visit) call(method string, params, result any) {
	v.t.Helper()
	must(v.t, v.c.Call(v.ctx, method, params, result))
}

func (v *visit) evaluate(expression string, value any) {
	v.t.Helper()
	must(v.t, v.c.Evaluate(v.ctx, expression, value))
}

func (v *visit) open(file string, l look) {
	v.t.Helper()
	v.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": l.width, "height": l.height, "deviceScaleFactor": l.scale, "mobile": l.width < 500}, nil)
	v.call("Emulation.setEmulatedMedia", map[string]any{"media": l.media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": l.theme}}}, nil)
	v.reports()
	v.loads("")
	must(v.t, v.c.Open(v.ctx, "file://"+file))
}

// A violation is what axe-core found.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

func (v *visit) violations(rules string) (found []violation) {
	v.t.Helper()
	v.evaluate(rules+"\n;0", nil)
	v.evaluate(`axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations)`, &found)
	return found
}

// axe checks that axe-core finds nothing.
func (v *visit) axe(rules string) {
	v.t.Helper()
	for _, f := range v.violations(rules) {
		v.t.Errorf("axe: %s (%s): %s, %d times, first %.300s: %.300s", f.ID, f.Impact, f.Help, len(f.Nodes), f.Nodes[0].HTML, f.Nodes[0].FailureSummary)
	}
}

func (v *visit) widths() (inner, scroll float64) {
	v.t.Helper()
	var w []float64
	v.evaluate(`[document.documentElement.clientWidth, document.documentElement.scrollWidth]`, &w)
	return w[0], w[1]
}

// fits checks that a reader need not scroll sideways.
func (v *visit) fits() {
	v.t.Helper()
	if inner, scroll := v.widths(); scroll > inner {
		v.t.Errorf("the page is %v wide, the window %v", scroll, inner)
	}
}

// tables checks that each table that is shown is one to a screen reader too, with rows and their headers,
// however it is laid out.
func (v *visit) tables() {
	v.t.Helper()
	var shown int
	v.evaluate(`[...document.querySelectorAll("table")].filter(t => t.checkVisibility({contentVisibilityAuto: true})).length`, &shown)
	var tree struct {
		Nodes []struct {
			Ignored bool
			Role    struct{ Value string }
		}
	}
	v.call("Accessibility.getFullAXTree", nil, &tree)
	roles := map[string]int{}
	for _, n := range tree.Nodes {
		if !n.Ignored {
			roles[n.Role.Value]++
		}
	}
	if shown == 0 || roles["table"] < shown || roles["rowheader"] < shown || roles["heading"] < 5 || roles["main"] != 1 || roles["navigation"] > 1 {
		v.t.Errorf("%d tables are shown, and a screen reader has %v", shown, roles)
	}
}

// printed checks that paper has every check, and the screen those of open groups alone.
func (v *visit) printed(paper bool) {
	v.t.Helper()
	var closed, visible int
	v.evaluate(`document.querySelectorAll("details:not([open]) table").length`, &closed)
	v.evaluate(`[...document.querySelectorAll("details:not([open]) table")].filter(t => t.checkVisibility()).length`, &visible)
	if want := map[bool]int{true: closed}[paper]; closed == 0 || visible != want {
		v.t.Errorf("%d of %d closed groups are shown, want %d", visible, closed, want)
	}
}

// reports returns what the browser said on its console since the last call.
func (v *visit) reports() (out []string) {
	for _, e := range v.c.Events("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") {
		out = append(out, e.Method+" "+string(e.Params))
	}
	return out
}

// loads returns what was loaded since the last call, apart from the page itself.
func (v *visit) loads(file string) (out []string) {
	v.t.Helper()
	for _, e := range v.c.Events("Network.requestWillBeSent") {
		var sent struct{ Request struct{ URL string } }
		must(v.t, json.Unmarshal(e.Params, &sent))
		if sent.Request.URL != "file://"+file {
			out = append(out, sent.Request.URL)
		}
	}
	return out
}

// silent checks that the browser said nothing and loaded nothing else.
func (v *visit) silent(file string) {
	v.t.Helper()
	if said, loaded := v.reports(), v.loads(file); len(said)+len(loaded) > 0 {
		v.t.Errorf("the browser reports %.600q and loads %.600q", said, loaded)
	}
}

func (v *visit) press(key, text string, code int) {
	v.t.Helper()
	v.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code}, nil)
	v.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code}, nil)
}

// keyboard checks that the first stop of the tabulator key leads to the verdict, and that a key opens
// a group of checks.
func (v *visit) keyboard() {
	v.t.Helper()
	v.press("Tab", "", 9)
	v.press("Enter", "\r", 13)
	var at string
	v.evaluate("document.activeElement.id", &at)
	if at != "verdict" {
		v.t.Errorf("the first link leads to %q", at)
	}
	v.evaluate(`document.querySelector("details:not([open]) summary").focus()`, nil)
	var before, after int
	v.evaluate(`document.querySelectorAll("details[open]").length`, &before)
	v.press("Enter", "\r", 13)
	v.evaluate(`document.querySelectorAll("details[open]").length`, &after)
	if after != before+1 {
		v.t.Errorf("%d groups are open after the key, want %d", after, before+1)
	}
}

// shoot keeps a picture of the whole page if AGENTD_TEST_SCREENSHOTS names a folder.
func (v *visit) shoot(name string) {
	v.t.Helper()
	dir := os.Getenv("AGENTD_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct{ Data string }
	v.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	b, err := base64.StdEncoding.DecodeString(shot.Data)
	must(v.t, err)
	must(v.t, os.WriteFile(filepath.Join(dir, name+".png"), b, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
