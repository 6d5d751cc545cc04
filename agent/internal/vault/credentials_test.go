// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/credentials"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// opening is a Vault with an open store on a machine of its own.
func opening(t *testing.T) *Vault {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sealed")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	p, err := soft.New(soft.Options{ChipSecret: slices.Repeat([]byte{1}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s, err := store.Open(t.Context(), store.Config{Files: files{dir}, Platform: p, LoseOnHardwareChange: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	v := with(nil)
	if up, err := v.c.Supervisor.Run(t.Context(), nil); !up || err != nil {
		t.Fatalf("%v, %v", up, err)
	}
	v.store = s
	close(v.tried)
	return v
}

// text returns a secret.
func text(t *testing.T, content string) *secret.Secret {
	t.Helper()
	s, err := secret.Take([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Wipe)
	return s
}

// TestAppOfAUnit: of several apps of one unit it is the one for which root provisioned the secret.
// None, or more than one, and nothing is handed out.
func TestAppOfAUnit(t *testing.T) {
	v := opening(t)
	first, second := caller.App{Name: "first", Unit: "x.service", User: "a"}, caller.App{Name: "second", Unit: "x.service", User: "b"}
	for _, x := range []struct{ app, name string }{{"first", "one"}, {"second", "two"}, {"first", "both"}, {"second", "both"}} {
		if err := v.store.Provision(t.Context(), sealing.App{Name: x.app, Unit: "x.service", User: "u"}, x.name, text(t, "s"), false); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		found []caller.App
		want  string
		code  api.Code
	}{
		{"one", []caller.App{first, second}, "first", ""},
		{"two", []caller.App{first, second}, "second", ""},
		{"both", []caller.App{second, first}, "", api.CodeNotFound},
		{"none", []caller.App{first, second}, "", api.CodeNotFound},
		{"one", []caller.App{second}, "second", ""}, // which then has no such secret
		{"one", nil, "", api.CodeNoApp},
	} {
		got, err := ofUnit(t.Context(), v.store, c.found, credentials.Asked{Kind: credentials.Credential, Unit: "x.service", Name: c.name})
		if got.Name != c.want || c.code != "" && !errors.Is(err, c.code) || c.code == "" && err != nil {
			t.Errorf("%s of %v: %q, %v; want %q, %s", c.name, c.found, got.Name, err, c.want, c.code)
		}
	}
}

// TestVolumes: the record of a volume is kept under a name that no declared app can have, and is
// forgotten as a whole.
func TestVolumes(t *testing.T) {
	v := Volumes{opening(t)}
	if _, err := v.Volume(t.Context(), "data"); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("no record: %v", err)
	}
	if err := v.Changeable(t.Context()); err != nil {
		t.Error(err)
	}
	for _, content := range []string{"one", "two"} {
		if err := v.PutVolume(t.Context(), "data", text(t, content)); err != nil {
			t.Fatal(err)
		}
		got, err := v.Volume(t.Context(), "data")
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(text(t, content)) {
			t.Error("another record comes back")
		}
		got.Wipe()
	}
	all, err := v.Volumes(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "data" || all[0].Unproven {
		t.Errorf("volumes %+v, %v", all, err)
	}
	if err := v.RemoveVolume(t.Context(), "other"); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
	if err := v.RemoveVolume(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	if all, err := v.Volumes(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after it was forgotten: %+v, %v", all, err)
	}
}

// TestStillMeasured: an app that is not measured, or that was declared otherwise or changed while it
// was measured, gets no credential.
func TestStillMeasured(t *testing.T) {
	app := caller.App{Name: "a", Unit: "x.service", User: "u"}
	good := store.Caller{App: sealing.App{Name: "a", Unit: "x.service", User: "u"}, Digest: evidence.Digest{1}}
	of := func(change func(*store.Caller)) store.Caller { c := good; change(&c); return c }
	for name, c := range map[string]struct {
		state api.AppState
		now   store.Caller
		want  api.Code
	}{
		"measured":     {api.AppMeasured, good, ""},
		"not measured": {api.AppUnmeasured, good, api.CodeMeasureFailed},
		"withdrawn":    {api.AppMeasured, store.Caller{}, api.CodeNoApp},
		"another unit": {api.AppMeasured, of(func(c *store.Caller) { c.App.Unit = "y.service" }), api.CodeNoApp},
		"another user": {api.AppMeasured, of(func(c *store.Caller) { c.App.User = "v" }), api.CodeNoApp},
		"changed":      {api.AppMeasured, of(func(c *store.Caller) { c.Digest = evidence.Digest{} }), api.CodeMeasureFailed},
	} {
		err := stillMeasured(app, api.App{State: c.state}, c.now)
		if c.want == "" && err != nil || c.want != "" && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
