// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// worlds are the kinds of machines.
var worlds = map[string]func() *world{
	"snp+tpm": newWorld,
	"snp":     func() *world { w := newWorld(); w.tpm = nil; return w },
	"tpm":     func() *world { w := newWorld(); w.machine = nil; return w },
}

func TestSecretsOutliveRestart(t *testing.T) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			w := make()
			s := w.ready(t)
			sealText(t, s, billing, "token", "hunter2")
			want, err := deriveText(s, billing, "disk", 0)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				s = w.ready(t)
				if got, err := unsealText(s, billing, "token"); err != nil || got != "hunter2" {
					t.Fatalf("unsealed %q, %v", got, err)
				}
				if got, err := deriveText(s, billing, "disk", 0); err != nil || got != want {
					t.Fatalf("derived something else, %v", err)
				}
				if st := state(t, s); st.Slot.String() != name || st.Counted != (w.tpm != nil) || st.Rewrap || st.Orphans != 0 {
					t.Errorf("state %+v", st)
				}
				sealText(t, s, ledger, "other", "data")
			}
		})
	}
}

// TestStartOpensOneBlob: the number of stored secrets does not slow the start down.
func TestStartOpensOneBlob(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	for i := range 20 {
		sealText(t, s, billing, fmt.Sprint("token", i), "x")
	}
	w.files.reads, w.machine.asks = 0, 0
	w.ready(t)
	if w.files.reads != 2 || w.machine.asks != 1 { // the manifest and the TPM's secret
		t.Errorf("%d files read and %d keys asked for, want 2 and 1", w.files.reads, w.machine.asks)
	}
}

// TestWarmRoots: once open, nothing asks the firmware again.
func TestWarmRoots(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	sealText(t, s, billing, "token", "hunter2")
	asks := w.machine.asks
	for range 5 {
		if _, err := unsealText(s, billing, "token"); err != nil {
			t.Fatal(err)
		}
		if _, err := deriveText(s, billing, "disk", 0); err != nil {
			t.Fatal(err)
		}
	}
	if w.machine.asks != asks {
		t.Errorf("%d further requests to the firmware", w.machine.asks-asks)
	}
}

// TestBadDerivedKeys: case 67. Neither a new store nor an old one takes them.
func TestBadDerivedKeys(t *testing.T) {
	tests := []struct {
		name string
		key  func(uint64) ([]byte, error)
		want api.Code
	}{
		{"all zero", func(uint64) ([]byte, error) { return make([]byte, 32), nil }, api.CodeBadDerivedKey},
		{"all zero, noticed by the platform", func(uint64) ([]byte, error) { return nil, fmt.Errorf("ask: %w", platform.ErrZeroKey) }, api.CodeBadDerivedKey},
		{"busy", func(uint64) ([]byte, error) { return nil, platform.ErrBusy }, api.CodeRootUnavailable},
		{"too short", func(uint64) ([]byte, error) { return []byte("short"), nil }, api.CodeBadDerivedKey},
		{"status", func(uint64) ([]byte, error) { return nil, errors.New("firmware status 0x16") }, api.CodeRootUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fresh, old := newWorld(), newWorld()
			sealText(t, old.ready(t), billing, "token", "hunter2")
			for name, w := range map[string]*world{"new store": fresh, "old store": old} {
				w.machine.fail = tt.key
				s := w.open(t)
				if err := state(t, s).Err; !errors.Is(err, tt.want) {
					t.Errorf("%s: %v, want %s", name, err, tt.want)
				}
				if err := trySeal(s, billing, "a", "b"); !errors.Is(err, tt.want) {
					t.Errorf("%s: sealing: %v, want %s", name, err, tt.want)
				}
				if _, ok := w.files.files["manifest.sealed"]; ok != (w == old) {
					t.Errorf("%s: manifest there: %v", name, ok)
				}
			}
			old.machine.fail = nil
			if got, err := unsealText(old.ready(t), billing, "token"); err != nil || got != "hunter2" {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

// TestBusyDeviceComesBack: an error of the moment is not remembered.
func TestBusyDeviceComesBack(t *testing.T) {
	w := newWorld()
	sealText(t, w.ready(t), billing, "token", "hunter2")
	w.machine.fail = func(uint64) ([]byte, error) { return nil, errors.New("busy") }
	w.config.RetryPause = time.Hour
	s := w.open(t)
	asks := w.machine.asks
	for range 10 {
		if _, err := unsealText(s, billing, "token"); !errors.Is(err, api.CodeRootUnavailable) {
			t.Fatalf("got %v, want %s", err, api.CodeRootUnavailable)
		}
	}
	if w.machine.asks != asks {
		t.Errorf("%d further requests to a firmware that fails", w.machine.asks-asks)
	}
	w.config.RetryPause = time.Nanosecond
	s = w.open(t)
	if _, err := unsealText(s, billing, "token"); !errors.Is(err, api.CodeRootUnavailable) {
		t.Fatalf("got %v, want %s", err, api.CodeRootUnavailable)
	}
	w.machine.fail = nil
	if got, err := unsealText(s, billing, "token"); err != nil || got != "hunter2" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// TestNoRecoveryNeedsAcknowledgement checks that secrets can be lost only if the operator
// has accepted it.
func TestNoRecoveryNeedsAcknowledgement(t *testing.T) {
	w := newWorld()
	w.config.LoseOnHardwareChange = false
	s := w.open(t)
	if err := state(t, s).Err; !errors.Is(err, api.CodeNoRecovery) {
		t.Fatalf("got %v, want %s", err, api.CodeNoRecovery)
	}
	if len(w.files.files) > 0 {
		t.Errorf("files were written: %v", w.files.files)
	}
	w.config.Recipients = []string{"age1nonsense"}
	if _, err := store.Open(t.Context(), store.Config{Files: w.files, Platform: w.machine, Recipients: w.config.Recipients}); err == nil {
		t.Error("a text that is not a recipient was accepted")
	}
	recipient, _ := identity(t)
	w.config.Recipients = []string{recipient, recipient}
	s = w.ready(t)
	if st := state(t, s); len(st.Recipients) != 1 || st.Differ {
		t.Errorf("state %+v", st)
	}
}

// TestConfigurationDoesNotRedirectRecovery: recipients come from the authenticated
// manifest and header, also when everything is sealed again.
func TestConfigurationDoesNotRedirectRecovery(t *testing.T) {
	ours, _ := identity(t)
	theirs, _ := identity(t)
	w := newWorld()
	w.config.Recipients = []string{ours}
	sealText(t, w.ready(t), billing, "token", "hunter2")
	w.config.Recipients = []string{theirs}
	s := w.ready(t)
	sealText(t, s, billing, "later", "x")
	if _, err := s.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := state(t, s); !st.Differ || strings.Join(st.Recipients, " ") != ours {
		t.Errorf("state %+v", st)
	}
	for name, b := range w.files.files {
		if strings.Contains(string(b), theirs) {
			t.Errorf("%s names the recipient of the configuration", name)
		}
	}
	if _, err := s.ChangeRecipients(t.Context(), []string{theirs}, false); err != nil {
		t.Fatal(err)
	}
	for name, b := range w.files.files {
		if strings.HasSuffix(name, ".sealed") && (strings.Contains(string(b), ours) || !strings.Contains(string(b), theirs)) {
			t.Errorf("%s: recipient was not changed", name)
		}
	}
	if _, err := s.ChangeRecipients(t.Context(), nil, false); !errors.Is(err, api.CodeNoRecovery) {
		t.Errorf("without recipients: %v, want %s", err, api.CodeNoRecovery)
	}
}

func TestQuota(t *testing.T) {
	w := newWorld()
	w.config.Quota = store.Quota{Secrets: 2, Bytes: 10}
	s := w.ready(t)
	sealText(t, s, billing, "a", "12345")
	for _, tt := range []struct {
		caller     store.Caller
		name, text string
		want       api.Code
	}{
		{billing, "b", "123456", api.CodeQuotaExceeded}, // bytes
		{billing, "b", "12345", ""},
		{billing, "c", "", api.CodeQuotaExceeded}, // number
		{billing, "a", "54321", ""},               // replaces
		{ledger, "a", "1234567890", ""},           // its own quota
		{ledger, "b", strings.Repeat("x", sealing.MaxSecret+1), api.CodeInvalidValue},
		{ledger, "", "x", api.CodeInvalidValue},
		{ledger, "line\nbreak", "x", api.CodeInvalidValue},
	} {
		if err := trySeal(s, tt.caller, tt.name, tt.text); sealing.CodeOf(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s %q of %d bytes: %v, want %q", tt.caller.App.Name, tt.name, len(tt.text), err, tt.want)
		}
	}
	if err := s.Delete(t.Context(), billing, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := unsealText(s, billing, "b"); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("after deletion: %v", err)
	}
	sealText(t, s, billing, "c", "12345")
}

// TestDerivedSecretsAreUnrelated: app, label, length and version each matter, and no
// boundary between them can be shifted.
func TestDerivedSecretsAreUnrelated(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	seen := map[string]string{}
	add := func(what string, c store.Caller, label string, length int, version uint32) {
		t.Helper()
		out, _, err := s.Derive(t.Context(), c, []byte(label), length, version)
		got, err := text(out, err)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != length {
			t.Fatalf("%s: %d bytes, want %d", what, len(got), length)
		}
		if other, ok := seen[got[:16]]; ok {
			t.Errorf("%s begins like %s", what, other)
		}
		seen[got[:16]] = what
	}
	for _, c := range []store.Caller{billing, ledger} {
		for _, label := range []string{"", "a", "ab", "a\x00", "a\x00\x00\x00 "} {
			for _, length := range []int{16, 32, 33, sealing.MaxDerived} {
				add(fmt.Sprintf("%s %q %d", c.App.Name, label, length), c, label, length, 0)
			}
		}
	}
	if v, err := s.Rotate(t.Context(), "billing"); err != nil || v != 2 {
		t.Fatalf("rotate: %d, %v", v, err)
	}
	add("version 2", billing, "a", 32, 0)
	old, _ := deriveText(s, billing, "a", 1)
	if seen[old[:16]] != `billing "a" 32` {
		t.Error("version 1 does not derive what it did")
	}
	if _, err := deriveText(s, billing, "a", 3); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("version 3: %v", err)
	}
	for _, tt := range []struct{ label, length int }{{0, 0}, {0, sealing.MaxDerived + 1}, {sealing.MaxLabel + 1, 32}} {
		if _, _, err := s.Derive(t.Context(), billing, make([]byte, tt.label), tt.length, 0); !errors.Is(err, api.CodeInvalidValue) {
			t.Errorf("label of %d bytes, length %d: %v", tt.label, tt.length, err)
		}
	}
}

func TestRetire(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	ctx := t.Context()
	one, err := deriveText(s, billing, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Rotate(ctx, "billing"); err != nil {
			t.Fatal(err)
		}
	}
	three, _ := deriveText(s, billing, "a", 0)
	if err := s.Retire(ctx, "billing", 2); err != nil {
		t.Fatal(err)
	}
	s = w.ready(t)
	if got, _ := deriveText(s, billing, "a", 1); got != one {
		t.Error("version 1 changed")
	}
	if got, _ := deriveText(s, billing, "a", 0); got != three {
		t.Error("version 3 changed")
	}
	if _, err := deriveText(s, billing, "a", 2); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("version 2: %v", err)
	}
	if err := s.Retire(ctx, "billing", 3); !errors.Is(err, api.CodeInvalidValue) {
		t.Errorf("the current version: %v", err)
	}
	for range sealing.MaxVersions {
		_, err = s.Rotate(ctx, "billing")
	}
	if !errors.Is(err, api.CodeInvalidValue) {
		t.Errorf("more than %d versions: %v", sealing.MaxVersions, err)
	}
}

// TestDigests: an upgrade is prepared by authorising the next digest.
func TestDigests(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	ctx := context.Background()
	sealText(t, s, billing, "token", "hunter2")
	if err := s.AuthorizeDigest(ctx, "billing", evidence.Digest{1}); !errors.Is(err, api.CodeInvalidValue) {
		t.Errorf("authorise although none is required: %v", err)
	}
	if err := s.RequireDigest(ctx, billing.App, billing.Digest); err != nil {
		t.Fatal(err)
	}
	next, unmeasured := billing, billing
	next.Digest, unmeasured.Digest = evidence.Digest{9}, evidence.Digest{}
	check := func(c store.Caller, want api.Code) {
		t.Helper()
		for range 2 { // and after a restart
			if _, err := unsealText(s, c, "token"); sealing.CodeOf(err) != want {
				t.Errorf("unseal: %v, want %q", err, want)
			}
			if _, err := deriveText(s, c, "a", 0); sealing.CodeOf(err) != want {
				t.Errorf("derive: %v, want %q", err, want)
			}
			if err := trySeal(s, c, "more", "x"); sealing.CodeOf(err) != want {
				t.Errorf("seal: %v, want %q", err, want)
			}
			s = w.ready(t)
		}
	}
	check(billing, "")
	check(next, api.CodeDigestNotAuthorised)
	check(unmeasured, api.CodeDigestNotAuthorised)
	if err := s.AuthorizeDigest(ctx, "billing", next.Digest); err != nil {
		t.Fatal(err)
	}
	check(billing, "")
	check(next, "")
	if err := s.WithdrawDigest(ctx, "billing", billing.Digest); err != nil {
		t.Fatal(err)
	}
	check(billing, api.CodeDigestNotAuthorised)
	if err := s.WithdrawDigest(ctx, "billing", next.Digest); !errors.Is(err, api.CodeInvalidValue) {
		t.Errorf("withdraw the last: %v", err)
	}
	if err := s.RequireDigest(ctx, billing.App, evidence.Digest{}); !errors.Is(err, api.CodeInvalidValue) {
		t.Errorf("require the zero digest: %v", err)
	}
	if err := s.RequireDigest(ctx, billing.App); err != nil {
		t.Fatal(err)
	}
	check(unmeasured, "")
}

// TestCallersWithoutUnit: no system unit, no keys.
func TestCallersWithoutUnit(t *testing.T) {
	s := newWorld().ready(t)
	for _, app := range []sealing.App{{}, {Name: "billing", User: "billing"}, {Unit: "billing.service", User: "billing"}, {Name: "billing", Unit: "billing.service"}} {
		if _, err := deriveText(s, store.Caller{App: app}, "a", 0); !errors.Is(err, api.CodeInvalidValue) {
			t.Errorf("%+v: %v", app, err)
		}
	}
}

func TestContextEndsTheWait(t *testing.T) {
	s := newWorld().ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Derive(ctx, billing, nil, 32, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
