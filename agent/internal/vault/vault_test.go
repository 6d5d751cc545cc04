// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/reports"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/sealing"
)

// fake is a platform that derives keys, or none.
type fake struct {
	platform.Platform
	keys platform.Keys
}

func (fake) Staple([][]byte) error { return nil }
func (f fake) Keys() platform.Keys { return f.keys }

// deriving are keys that nothing asks for.
type deriving struct{ platform.Keys }

// with is a Vault on the platform that open opens.
func with(open func() (platform.Platform, error)) *Vault {
	choose := func(context.Context, platform.TPM) (platform.Platform, platform.Choice, error) {
		p, err := open()
		return p, platform.Choice{}, err
	}
	s := startup.New(slog.New(slog.DiscardHandler))
	return New(Config{
		Supervisor: s, Device: startup.NewPart[*tpm.Device](s), Apps: startup.NewPart[*apps.Apps](s),
		Platform: &reports.Watched{Open: choose}, Log: slog.New(slog.DiscardHandler),
	})
}

// TestRootPlatform: sealed blobs rest on the TPM alone only if an administrator accepted it.
func TestRootPlatform(t *testing.T) {
	absent := func() (platform.Platform, error) { return nil, platform.ErrAbsent }
	for _, c := range []struct {
		name     string
		open     func() (platform.Platform, error)
		accepted bool
		derives  bool
		err      error
	}{
		{"derives", func() (platform.Platform, error) { return fake{keys: deriving{}}, nil }, false, true, nil},
		{"derives, and less is accepted", func() (platform.Platform, error) { return fake{keys: deriving{}}, nil }, true, true, nil},
		{"reports only", func() (platform.Platform, error) { return fake{}, nil }, false, false, ErrNoDerivation},
		{"reports only, accepted", func() (platform.Platform, error) { return fake{}, nil }, true, false, nil},
		{"no device", absent, false, false, platform.ErrAbsent},
		{"no device, accepted", absent, true, false, nil},
		{"not chosen yet, accepted", func() (platform.Platform, error) { return nil, platform.ErrNotYet }, true, false, ErrNoDerivation},
		{"a device that cannot be opened, accepted", func() (platform.Platform, error) { return nil, fs.ErrPermission }, true, false, fs.ErrPermission},
	} {
		d := with(c.open)
		d.c.Keys.WithoutDerivedKeys = c.accepted
		p, err := d.keys(t.Context())
		if (p != nil) != c.derives || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, p, err)
		}
		if c.err != nil && !errors.Is(err, ErrNoDerivation) {
			t.Errorf("%s: %v has no code", c.name, err)
		}
	}
}

// TestProbeWithoutKeys: a platform without keys is in order if an administrator accepted that, and
// what is found says on what blobs rest. Otherwise the reason comes in place of a finding.
func TestProbeWithoutKeys(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		d := with(func() (platform.Platform, error) { return fake{}, nil })
		if up, err := d.c.Supervisor.Run(t.Context(), nil); !up || err != nil {
			t.Fatalf("%v, %v", up, err)
		}
		d.c.Keys.WithoutDerivedKeys = accepted
		p, err := Admin{d}.Probe(t.Context())
		if !accepted {
			if !errors.Is(err, ErrNoDerivation) || len(p.Findings) > 0 {
				t.Errorf("not accepted: %+v, %v", p, err)
			}
			continue
		}
		if err != nil || len(p.Findings) != 1 || !p.Findings[0].OK || !strings.Contains(p.Findings[0].Text, "rest on the TPM alone, on no chip and no launch measurement") {
			t.Errorf("accepted: %+v, %v", p, err)
		}
	}
}

// TestKeyStatus: what status says of a store, from memory.
func TestKeyStatus(t *testing.T) {
	d := Secrets{with(nil)}
	if s := d.Status(); s.State != api.StateAbsent || s.Reason != api.ReasonStarting || d.Usable().Yes {
		t.Errorf("%+v", s)
	}
	d.err = ErrNoDerivation
	if s := d.Status(); s.State != api.StateAbsent || s.Reason != ErrNoDerivation.Error() {
		t.Errorf("%+v", s)
	}
	d.store, d.err = &store.Store{}, nil
	if s := d.Status(); s.State != api.StateDegraded || s.Reason != api.ReasonStarting {
		t.Errorf("%+v", s)
	}
	d.state = store.State{Err: &sealing.Error{Code: api.CodeOtherChip, Detail: "hardware changed"}}
	if s := d.Status(); s.State != api.StateDegraded || s.Code != api.CodeOtherChip || s.Reason == "" || d.Usable().Yes {
		t.Errorf("%+v", s)
	}
	d.state = store.State{Ready: true, Slot: sealing.SlotSNPTPM, Blobs: 3}
	if s := d.Status(); s.State != api.StateOK || s.Slot != "snp+tpm" || s.Blobs != 3 || !d.Usable().Yes {
		t.Errorf("%+v", s)
	}
}

// TestContractOf: every change has an outcome, and codes are those of the API.
func TestContractOf(t *testing.T) {
	c := contractOf(sealing.Contract{Kind: sealing.KindSecret, Digests: []evidence.Digest{{1}}, Slots: []sealing.SlotKind{sealing.SlotTPM}, Weakest: sealing.SlotTPM},
		&sealing.Error{Code: api.CodeOtherTPM, Detail: "d"})
	if len(c.Changes) != len(sealing.Changes()) || c.Code != api.CodeOtherTPM || c.Text == "" || c.Limit == "" {
		t.Errorf("%+v", c)
	}
	for _, x := range c.Changes {
		if x.Opens != (x.Code == "") {
			t.Errorf("%+v", x)
		}
	}
}

// TestCertifyRequests: case 152. Only a key in the TPM is certified, over 1 to 64 bytes, and only for an app that
// the configuration names and that is measured.
func TestCertifyRequests(t *testing.T) {
	d := Secrets{with(nil)}
	d.c.Keys.CertifyApps = []string{"billing"}
	for _, c := range []struct {
		a     api.SigningAlgorithm
		n     int
		where string
	}{
		{api.SignP256, 32, "/algorithm"}, {"", 32, "/algorithm"}, {"tpm", 32, "/algorithm"},
		{api.SignTPMP256, 0, "/data"}, {api.SignTPMP256, 65, "/data"}, {api.SignTPMP256, 1, ""}, {api.SignTPMP256, 64, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is up: what is not refused would wait
		_, err := d.Certify(ctx, server.Owner{App: "billing"}, api.CertifyRequest{Label: "acme", Algorithm: c.a, Data: make([]byte, c.n)})
		var p *api.Problem
		if refused := errors.As(err, &p); refused != (c.where != "") || refused && (p.Code != api.CodeInvalidValue || p.Where != c.where) {
			t.Errorf("%q, %d bytes: %v", c.a, c.n, err)
		}
	}
	caller := func(name string, digest evidence.Digest) store.Caller {
		return store.Caller{App: sealing.App{Name: name}, Digest: digest}
	}
	for _, c := range []struct {
		c    store.Caller
		want api.Code
	}{
		{caller("billing", evidence.Digest{1}), ""},
		{caller("billing", evidence.Digest{}), api.CodeDigestNotAuthorised},
		{caller("bill", evidence.Digest{1}), api.CodeCertifyNotPermitted},
		{caller("", evidence.Digest{1}), api.CodeCertifyNotPermitted},
	} {
		if err := d.mayCertify(c.c); (err == nil) != (c.want == "") || err != nil && !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %q", c.c, err, c.want)
		}
	}
}

// TestWithdrawnApp: a declaration that went away between two requests gives no keys.
func TestWithdrawnApp(t *testing.T) {
	d := Secrets{with(nil)}
	var p *api.Problem
	if _, err := d.app(server.Owner{App: "billing", Unit: "billing.service"}); !errors.As(err, &p) || p.Code != api.CodeNoApp {
		t.Errorf("got %v", err)
	}
}

// Writes wear the TPM's memory out: one app may ask for so many and no more, and others are
// not affected.
func TestWritesPerMinute(t *testing.T) {
	d := Secrets{with(nil)}
	d.c.Keys.WritesPerMinute = 10
	allowed := 0
	for range 100 {
		err := d.mayWrite("billing")
		if err == nil {
			allowed++
			continue
		}
		if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != api.CodeThrottled || p.RetryAfter < 1 {
			t.Fatalf("error %v, want %s with a time", err, api.CodeThrottled)
		}
	}
	if allowed != 20 {
		t.Errorf("%d writes at once, want a burst of 20", allowed)
	}
	if err := d.mayWrite("ledger"); err != nil {
		t.Errorf("another app: %v", err)
	}
}

// TestSameUser: the keys of an app are for its user. A dynamic one may have had any uid when its process
// was identified, and is not a user with a uid of that name.
func TestSameUser(t *testing.T) {
	static, dynamic := apps.Status{UID: 990}, apps.Status{UID: 1<<32 - 1, Dynamic: true}
	for _, c := range []struct {
		now  apps.Status
		then server.Owner
		want bool
	}{
		{static, server.Owner{UID: 990}, true},
		{static, server.Owner{UID: 991}, false},
		{static, server.Owner{UID: 990, Dynamic: true}, false},
		{dynamic, server.Owner{UID: 61200, Dynamic: true}, true},
		{dynamic, server.Owner{UID: 1<<32 - 1}, false},
		{dynamic, server.Owner{UID: 61200}, false},
	} {
		if got := sameUser(c.now, c.then); got != c.want {
			t.Errorf("%+v after %+v: %v", c.now, c.then, got)
		}
	}
}
