// SPDX-License-Identifier: Apache-2.0

package nodeserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// rules is a policy that the server takes.
const rules = "version = 1\nunlisted_launch = \"allow\"\n[caller]\nunit = \"spire-agent.service\"\n"

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPolicies: a policy that does not protect what SPIRE hands out is refused, and one that refuses all.
func TestPolicies(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"good":                  {rules, ""},
		"a container":           {strings.Replace(rules, "unit = \"spire-agent.service\"", "app = \"spire\"\ncontainer = \"podman\"\n[[container]]\nname = \"spire\"\nengine = \"podman\"\nroots = [\""+strings.Repeat("1", 64)+"\"]\n", 1), ""},
		"no caller":             {strings.Split(rules, "[caller]")[0], "does not name the caller"},
		"without a log":         {"log = \"optional\"\n" + rules, "log = \"optional\""},
		"continuation":          {"continuation = \"required\"\n" + rules, "continuation = \"required\""},
		"the list of IMA":       {rules + "[ima]\nunlisted = \"allow\"\n", "does not go through SPIRE"},
		"a list if it is there": {rules + "[ima]\nlist = \"optional\"\nunlisted = \"allow\"\n", ""},
		"not a policy":          {"version = 1\nnothing = 1\n", "nothing"},
	} {
		s := &source{policy: write(t, filepath.Join(t.TempDir(), "policy.toml"), c.text)}
		_, err := s.current()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestChanges: a policy in a file of the same length and time counts, and what cannot be read leaves nothing
// in force.
func TestChanges(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "collateral")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &source{policy: write(t, filepath.Join(dir, "policy.toml"), rules), collateral: folder}
	current := func() *ruling {
		t.Helper()
		r, err := s.current()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := current()
	if current() != first {
		t.Error("read again without a change")
	}
	info, err := os.Stat(s.policy)
	if err != nil {
		t.Fatal(err)
	}
	next := write(t, filepath.Join(dir, "next"), strings.Replace(rules, "spire", "other", 1))
	if err := errors.Join(os.Chtimes(next, info.ModTime(), info.ModTime()), os.Rename(next, s.policy)); err != nil {
		t.Fatal(err)
	}
	if got := current(); got.policy.Caller.Unit != "other-agent.service" {
		t.Errorf("the caller is %q", got.policy.Caller.Unit)
	}

	for _, name := range []string{"milan-vcek.crl", "milan-vcek-chain.pem", "x.der"} {
		path := write(t, filepath.Join(folder, name), "broken")
		if r, err := s.current(); err == nil {
			t.Errorf("%s is broken: %+v", name, r)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		current()
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if r, err := s.current(); err == nil {
		t.Errorf("without the folder: %+v", r)
	}
}

// TestPath: two attestation keys never have one path, whatever the template makes of a machine.
func TestPath(t *testing.T) {
	ak := "000b" + strings.Repeat("2", 64)
	for text, want := range map[string]string{
		"{{ .AK }}":                ak,
		"{{ .Product }}/{{ .AK }}": "Milan/" + ak,
		"x-{{ .AK }}":              "x-" + ak,
		"{{ .Chip }}/{{ .AK }}":    "", // it is masked
		"{{ .Product }}":           "",
		"{{ slice .AK 4 }}":        "",
		"{{ if .Chip }}{{ .AK }}{{ else }}x{{ end }}": "", // whose sample contains it
		"{{ .AK }}/../x": "",
		"{{ .AK }} x":    "",
		"{{ .AK }}/" + strings.Repeat("a", maxPath): "",
	} {
		path, err := template.New("").Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := render(path, names{AK: ak, Product: "Milan"}); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	j := &judge{config: &config{trustDomain: "example.org", path: template.Must(template.New("").Parse(defaultPath))}}
	if id, err := j.id(&verify.Claims{}); err == nil {
		t.Errorf("evidence without an attestation key is %s", id)
	}
}

// TestAppSelectors: an app that is not covered now is not among the selectors.
func TestAppSelectors(t *testing.T) {
	app := func(name string, covered bool) verify.AppClaim {
		a := verify.AppClaim{Name: name, Current: 1, Versions: make([]verify.AppVersion, 2), Intervals: make([]verify.Interval, 1)}
		a.Versions[1].Digest = evidence.Digest{7}
		if !covered {
			a.Intervals = nil
		}
		return a
	}
	claims := &verify.Claims{Log: &verify.LogState{Apps: []verify.AppClaim{app("billing", true), app("shop", false)}}}
	got, err := selectors(&verify.Appraisal{}, claims)
	if want := "[app:billing app-digest:billing:07" + strings.Repeat("00", 31) + "]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
	for range maxSelectors / 2 {
		claims.Log.Apps = append(claims.Log.Apps, app("more", true))
	}
	if got, err := selectors(&verify.Appraisal{}, claims); err == nil {
		t.Errorf("%d selectors", len(got))
	}
}
