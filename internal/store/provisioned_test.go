// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// TestProvisioned: what root provisions and what an app stores are apart, in both directions, and
// under the same names. It goes to the app's identity and digest, as all that is the app's.
func TestProvisioned(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	put := func(c store.Caller, name, text string, replace bool) error {
		return provision(c, name, text, replace)(t.Context(), s)
	}
	errAbsent := errors.New("there is none")
	there := func(c store.Caller, name string) error {
		is, err := s.Provisioned(t.Context(), c.App, name)
		if err == nil && !is {
			err = errAbsent
		}
		return err
	}
	for _, step := range []struct {
		what string
		err  error
		want error
	}{
		{"rotate what is not there", put(billing, "password", "x", true), api.CodeNotFound},
		{"put", put(billing, "password", "one", false), nil},
		{"put over", put(billing, "password", "two", false), api.CodeExists},
		{"hand", handed(s, billing, "password", "one"), nil},
		{"rotate", put(billing, "password", "two", true), nil},
		{"hand what was rotated", handed(s, billing, "password", "two"), nil},
		{"the app stores under the same name", trySeal(s, billing, "password", "mine"), nil},
		{"which changes nothing", handed(s, billing, "password", "two"), nil},
		{"the app stores where root does", trySeal(s, billing, sealing.Provisioned+"password", "mine"), api.CodeInvalidValue},
		{"the app deletes it", s.Delete(t.Context(), billing, sealing.Provisioned+"password"), api.CodeInvalidValue},
		{"another app", handed(s, ledger, "password", ""), api.CodeNotFound},
		{"the app under another user", handed(s, store.Caller{App: sealing.App{Name: "billing", Unit: billing.App.Unit, User: "other"}}, "password", ""), api.CodeOtherUser},
		{"the app in another unit", handed(s, store.Caller{App: sealing.App{Name: "billing", Unit: "other.service", User: billing.App.User}}, "password", ""), api.CodeOtherApp},
		{"put for a name with another unit", put(store.Caller{App: sealing.App{Name: "billing", Unit: "other.service", User: billing.App.User}}, "x", "y", false), api.CodeOtherApp},
		{"look for a name with another unit", there(store.Caller{App: sealing.App{Name: "billing", Unit: "other.service", User: billing.App.User}}, "password"), api.CodeOtherApp},
		{"look for a name with another user", there(store.Caller{App: sealing.App{Name: "billing", Unit: billing.App.Unit, User: "other"}}, "password"), api.CodeOtherUser},
		{"look for what is there", there(billing, "password"), nil},
		{"look for what is not", there(billing, "more"), errAbsent},
		{"look for an app that has nothing yet", there(ledger, "password"), errAbsent},
		{"an empty secret", put(billing, "empty", "", false), api.CodeInvalidValue},
		{"a name that is none", put(billing, "a/b", "x", false), api.CodeInvalidValue},
		{"too large", put(billing, "large", strings.Repeat("x", sealing.MaxSecret+1), false), api.CodeInvalidValue},
		{"remove what is not there", s.Unprovision(t.Context(), "ledger", "password"), api.CodeNotFound},
		{"require a digest", s.RequireDigest(t.Context(), billing.App, evidence.Digest{7}), nil},
		{"hand without it", handed(s, billing, "password", ""), api.CodeDigestNotAuthorised},
		{"rotate without it", put(billing, "password", "three", true), nil}, // before an upgrade
		{"hand with it", handed(s, store.Caller{App: billing.App, Digest: evidence.Digest{7}}, "password", "three"), nil},
		{"remove", s.Unprovision(t.Context(), "billing", "password"), nil},
		{"hand what was removed", handed(s, store.Caller{App: billing.App, Digest: evidence.Digest{7}}, "password", ""), api.CodeNotFound},
	} {
		if !errors.Is(step.err, step.want) || step.want == nil && step.err != nil {
			t.Errorf("%s: %v, want %v", step.what, step.err, step.want)
		}
	}
	if _, err := unsealText(s, billing, sealing.Provisioned+"password"); !errors.Is(err, api.CodeInvalidValue) {
		t.Errorf("the app opens what root provisioned: %v", err)
	}
	c, err := s.Contract(t.Context(), "billing", "password")
	if err != nil || len(c.Digests) != 1 {
		t.Errorf("the contract of a secret does not say which digest the app must have: %+v, %v", c.Digests, err)
	}
}

// TestProvisionedHasAQuotaOfItsOwn: an app that stores all that it may cannot keep root from
// rotating, and the other way round.
func TestProvisionedHasAQuotaOfItsOwn(t *testing.T) {
	w := newWorld()
	w.config.Quota = store.Quota{Secrets: 2, Bytes: 100}
	s := w.ready(t)
	sealText(t, s, billing, "a", "a")
	sealText(t, s, billing, "b", "b")
	for _, name := range []string{"a", "b"} {
		if err := provision(billing, name, "x", false)(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"a third of the app": trySeal(s, billing, "c", "c"),
		"a third of root":    provision(billing, "c", "c", false)(t.Context(), s),
		"too many bytes":     provision(billing, "a", strings.Repeat("x", 100), true)(t.Context(), s),
	} {
		if !errors.Is(err, api.CodeQuotaExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := provision(billing, "a", strings.Repeat("x", 99), true)(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// TestOwnBlobIsNotHandedOut: an app of an earlier version may have a blob under such a name, sealed
// with associated data of its own. It is not taken for one that root provisioned.
func TestOwnBlobIsNotHandedOut(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	data, err := secret.Take([]byte("chosen by the app"))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Wipe()
	if err := s.SealUnder(t.Context(), billing, sealing.Provisioned+"password", data, []byte("anything")); err != nil {
		t.Fatal(err)
	}
	if err := handed(s, billing, "password", ""); !errors.Is(err, api.CodeOtherAssociatedData) {
		t.Errorf("%v, want %s", err, api.CodeOtherAssociatedData)
	}
	// Root replaces it.
	if err := provision(billing, "password", "of root", true)(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := handed(s, billing, "password", "of root"); err != nil {
		t.Error(err)
	}
}
