// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/page/pagetest"
	"github.com/cvm-agentd/agentd/verify"
)

// hostile are texts that would become something else in a page that did not escape them, or that would mislead
// its reader.
var hostile = []string{
	`<script>alert(1)</script>`, `</title><h1>Accepted</h1>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `--></style><style>*{display:none}</style>`,
	`</svg><a href="javascript:alert(1)">x</a>`, `{{.Verdict}}`, "javascript:alert(1)", "]]><!--", "&lt;script&gt;&#60;b&#62;", "a\u202etpircs\u202c", "\u2066x\u2069\u200f\u061c", "a\x00b\x1b[2J\r\nc",
	"\xff\xfe broken \xc3", "\ufffe\uffff\ufdd0\U0001ffff", "\u200b\u00ad\u2028\u2029\ufeff", strings.Repeat("\u0338", 40), "日本語 עברית العربية 👍",
}

// full returns an accepted appraisal that has a text of strangers in every place that one can be.
func full(t *testing.T) *verify.Appraisal {
	t.Helper()
	a := scene{}.appraise(t)
	c, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	c.Machine.CSPID, c.Machine.Label, c.Statement.Audience = "cloud", "label", "audience"
	c.Statement.Caller.Container = &evidence.Container{Engine: "podman", ID: "c0ffee"}
	c.Log.Gaps = []verify.RecordedReason{{Record: 7, Reason: "reason"}}
	c.Log.Unmeasured = []verify.UnmeasuredClaim{{Record: 8, App: "app", Reason: "reason"}}
	container := verify.ContainerClaim{Record: 9}
	container.Engine, container.ID, container.App, container.Image.Name = "podman", "c0ffee", "app", "image"
	c.Log.Containers = []verify.ContainerClaim{container}
	c.Log.Emitted = []verify.EmittedClaim{{App: "app", Domain: "domain", Content: []byte("content"), First: 10, Last: 11, Count: 2}}
	gated := verify.GatedClaim{App: "app"}
	c.Log.Gated = []verify.GatedClaim{gated}
	c.Log.Started = []verify.StartedClaim{{Record: 12, App: "app", Path: "/bin/x"}}
	c.Log.Apps[0].Versions[0].Interpreter = "/bin/sh"
	c.IMA = &verify.IMAClaim{Entries: 3, Violations: 1, Violated: []verify.MeasuredFile{{Entry: 1, Path: "/bin/v"}}, Unlisted: 1, Named: []verify.MeasuredFile{{Entry: 2, Path: "/bin/u"}}}
	return a
}

// replaced are the texts of a decoded document, each with a way to replace it.
type replaced struct {
	path string
	set  func(string)
}

// leaves returns every text of a JSON value.
func leaves(path string, v any) (out []replaced) {
	switch x := v.(type) {
	case map[string]any:
		for k, below := range x {
			if _, ok := below.(string); ok {
				out = append(out, replaced{path + "." + k, func(s string) { x[k] = s }})
			}
			out = append(out, leaves(path+"."+k, below)...)
		}
	case []any:
		for i, below := range x {
			if _, ok := below.(string); ok {
				out = append(out, replaced{fmt.Sprintf("%s[%d]", path, i), func(s string) { x[i] = s }})
			}
			out = append(out, leaves(fmt.Sprintf("%s[%d]", path, i), below)...)
		}
	}
	return out
}

// TestInjection: a hostile text in every place of an appraisal that takes one changes no element of the
// page, and what it shows may be shown.
func TestInjection(t *testing.T) {
	for name, a := range map[string]*verify.Appraisal{"accepted": full(t), "refused": scene{nonce: bytes.Repeat([]byte{7}, 32)}.appraise(t)} {
		whole, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		want := drawn(t, everywhere(t, whole, "calm"), name, "calm")
		if want == nil {
			t.FailNow()
		}
		for _, text := range hostile {
			p := drawn(t, everywhere(t, whole, text), name, text)
			if p != nil && (p.Shape != want.Shape || len(p.Headings) != len(want.Headings)) {
				t.Errorf("%s: %q makes another page", name, text)
			}
		}
	}
}

// everywhere returns an appraisal with a text in every place that takes any text.
func everywhere(t *testing.T, whole []byte, text string) *verify.Appraisal {
	t.Helper()
	var document any
	if err := json.Unmarshal(whole, &document); err != nil {
		t.Fatal(err)
	}
	took := 0
	for _, leaf := range leaves("", document) {
		if fixed(leaf.path) {
			continue
		}
		took++
		leaf.set(text)
	}
	if took < 167 {
		t.Fatalf("only %d texts are hostile", took)
	}
	b, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	var a verify.Appraisal
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return &a
}

// fixed reports whether a member has words or digits of the verifier alone, which it checks.
func fixed(path string) bool {
	for _, suffix := range []string{".id", ".verdict", ".basis", ".time", ".supportedUntil", ".explained", ".why", ".agentKey", ".value", ".digest", ".declaration", ".configuration", ".gate", ".content",
		".nonce", ".userData", ".publicKey", ".keyProof", ".salt", ".invocation", ".root", ".image", ".config", ".manifest", ".guestPolicy", ".platformInfo"} {
		if strings.HasSuffix(path, suffix) {
			return !strings.HasSuffix(path, ".pcrs.value")
		}
	}
	return strings.HasPrefix(path, ".claims.basis.")
}

// drawn draws a page and returns it, nil if it is not what a page must be.
func drawn(t *testing.T, a *verify.Appraisal, name, text string) *pagetest.Page {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, a, Options{Name: text}); err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	p, err := pagetest.Read(b.Bytes())
	if err != nil {
		t.Errorf("%s: %q: %v", name, text, err)
		return nil
	}
	if strings.ContainsAny(text, "<") && bytes.Contains(b.Bytes(), []byte(text)) {
		t.Errorf("%s: %q is in the page as it is", name, text)
	}
	return p
}

// TestContentsOfEvents: what an application recorded is text like any other.
func TestContentsOfEvents(t *testing.T) {
	for _, text := range hostile {
		a := full(t)
		c, err := a.Claims()
		if err != nil {
			t.Fatal(err)
		}
		c.Log.Emitted[0].Content = []byte(text)
		read(t, a, Options{})
	}
}

// TestLine: text of strangers becomes one line that may be shown, cut where a character ends.
func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "": "", "a\nb": "a; b", "a\u202eb": "a\ufffdb", "a\ufffeb": "a\ufffdb", "\xff": "\ufffd",
		"ééééé": "ééé… (cut, 10 bytes)", "123456789": "1234567… (cut, 9 bytes)",
	} {
		if got := line(in, 7); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"short": "short", "longer than that": "longer…", "日本語日本語": "日本…", "1234567": "1234567"} {
		if got := brief(in, 7); got != want {
			t.Errorf("%q in a box is %q, want %q", in, got, want)
		}
	}
}
