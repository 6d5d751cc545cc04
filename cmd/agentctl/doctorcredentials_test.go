// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// The doctor names a credential that root did not provision, and one that the unit would start
// without.
func TestDoctorLooksAtCredentials(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "etc/systemd/system")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	text := "[Service]\nExecStart=/usr/bin/billing\nSetCredential=guessed:x\n"
	if err := os.WriteFile(filepath.Join(folder, "billing.service"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unitfile.Write(root, "billing.service", unitfile.DropIn("billing", 0, false, "there", "missing", "guessed")); err != nil {
		t.Fatal(err)
	}
	d := &doctor{}
	secrets := []api.ProvisionedSecret{{App: "billing", Name: "there"}, {App: "billing", Name: "guessed"}, {App: "other", Name: "missing"}}
	if n := d.lookAtUnit(root, "billing.service", secrets); n != 1 {
		t.Errorf("%d are missing, want 1", n)
	}
	if x := d.find("credentials: missing of billing.service"); x == nil || x.Level != levelBad || x.Todo != "`agentctl secret put --app billing missing`" {
		t.Errorf("%+v", d.symptoms)
	}
	if x := d.find("credentials: value of billing.service"); x == nil || x.Level != levelWarning {
		t.Errorf("%+v", d.symptoms)
	}
	if len(d.symptoms) != 2 {
		t.Errorf("%+v", d.symptoms)
	}
}

// The doctor says of a credential that root provisioned why its unit does not get it.
func TestDoctorSaysWhyACredentialDoesNotOpen(t *testing.T) {
	is, other := evidence.Digest{1}, evidence.Digest{2}
	apps := []api.App{{Name: "other", Digest: &other}, {Name: "billing", Digest: &is}}
	for what, c := range map[string]struct {
		contract api.Contract
		finding  string
		level    level
		opens    bool
	}{
		"no digest required":       {api.Contract{App: "billing"}, "", "", true},
		"its digest":               {api.Contract{App: "billing", Digests: []evidence.Digest{other, is}}, "", "", true},
		"another digest":           {api.Contract{App: "billing", Digests: []evidence.Digest{other}}, "credentials: digest of billing.service", levelBad, false},
		"an app that is not known": {api.Contract{App: "gone", Digests: []evidence.Digest{other}}, "", "", true},
		"a damaged blob":           {api.Contract{App: "billing", Code: api.CodeDamaged, Reason: "x"}, "credentials: token of billing.service", levelBad, false},
		"an unknown writer":        {api.Contract{App: "billing", Unproven: true}, "credentials: writer of token of billing.service", levelWarning, true},
	} {
		d := &doctor{}
		if got := d.opens("billing.service", "token", &c.contract, apps); got != c.opens {
			t.Errorf("%s: %v", what, got)
		}
		if c.finding == "" && len(d.symptoms) == 0 {
			continue
		}
		if x := d.find(c.finding); x == nil || len(d.symptoms) != 1 || x.Level != c.level || x.Todo == "" {
			t.Errorf("%s: %+v", what, d.symptoms)
		}
	}
}

// Credentials of a drop-in stay when the unit is enabled again, and those that cannot be are
// refused.
func TestCredentialsOfEnable(t *testing.T) {
	root := t.TempDir()
	s := &unitfile.Service{Name: "billing.service", Fallbacks: []string{"guessed"}}
	u := &unitFlags{root: root, load: []string{"a", "b"}}
	names, err := u.credentials(s)
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	if err := unitfile.Write(root, "billing.service", unitfile.DropIn("billing", 0, false, names...)); err != nil {
		t.Fatal(err)
	}
	u.load = []string{"b", "c"}
	if names, err = u.credentials(s); err != nil || len(names) != 3 {
		t.Error(names, err)
	}
	for _, name := range []string{"guessed", "a/b", "a:b", "", ".a", string(make([]byte, 201)), "x2345678901234567890123456789012345678901234567890123456789012345678901234567890"} {
		u.load = []string{name}
		if names, err := u.credentials(s); err == nil {
			t.Errorf("%q: %v", name, names)
		}
	}
}
