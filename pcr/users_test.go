// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"math"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// TestAppUsers: further users come back as they were written, and a list that names a user twice,
// in another order or without a uid is refused. An event without them has no member for them.
func TestAppUsers(t *testing.T) {
	manifest := pcr.Manifest{{Path: "/a", Mode: 0o100755}}
	event := func(users ...pcr.AppUser) *pcr.Event {
		return &pcr.Event{Type: pcr.EventApp, App: &pcr.AppEvent{App: "a", Unit: "a.service", User: "a", UID: new(uint32(7)), Users: users, Manifest: manifest, Digest: pcr.ManifestDigest(manifest)}}
	}
	many := make([]pcr.AppUser, pcr.MaxAppUsers+1)
	for i := range many {
		many[i] = pcr.AppUser{User: "x", UID: uint32(100 + i)}
	}
	for name, c := range map[string]struct {
		users []pcr.AppUser
		want  string // text of the refusal, empty if there is none
	}{
		"none":           {nil, ""},
		"one":            {[]pcr.AppUser{{User: "b", UID: 8}}, ""},
		"root":           {[]pcr.AppUser{{User: "root", UID: 0}, {User: "b", UID: 8}}, ""},
		"most":           {many[:pcr.MaxAppUsers], ""},
		"too many":       {many, "app.users has 17"},
		"the user":       {[]pcr.AppUser{{User: "b", UID: 7}}, "app.users[0].uid 7"},
		"twice":          {[]pcr.AppUser{{User: "b", UID: 8}, {User: "c", UID: 8}}, "not in ascending order"},
		"other order":    {[]pcr.AppUser{{User: "b", UID: 9}, {User: "c", UID: 8}}, "not in ascending order"},
		"no user":        {[]pcr.AppUser{{User: "b", UID: math.MaxUint32}}, "not that of a further user"},
		"without a name": {[]pcr.AppUser{{UID: 8}}, "app.users.user"},
	} {
		b, err := event(c.users...).Encode()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil {
			continue
		}
		if got := strings.Contains(string(b), `"users"`); got != (len(c.users) > 0) {
			t.Errorf("%s: %s", name, b)
		}
		e, err := pcr.ParseEvent(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for uid, want := range map[uint32]bool{7: true, 6: false, 8: len(c.users) > 0 && len(c.users) < 3} {
			if e.App.HasUser(uid) != want {
				t.Errorf("%s: has uid %d: %v", name, uid, !want)
			}
		}
		// A user without a uid is not root.
		if cut := strings.Replace(string(b), `,"uid":8}`, "}", 1); cut != string(b) {
			if _, err := pcr.ParseEvent([]byte(cut)); err == nil {
				t.Errorf("%s: read %s", name, cut)
			}
		}
	}
	without := event(pcr.AppUser{User: "b", UID: 8})
	without.App.User, without.App.UID = "", nil
	if _, err := without.Encode(); err == nil {
		t.Error("further users of an app without a user")
	}
}

// TestDynamicUser: an application of a dynamic user has a name, no uid and no further user, and can
// have processes of the uids that systemd gives, the first and the last included. An event of
// another application has no member for it.
func TestDynamicUser(t *testing.T) {
	manifest := pcr.Manifest{{Path: "/a", Mode: 0o100755}}
	event := func(user string, uid *uint32, dynamic bool, users ...pcr.AppUser) *pcr.Event {
		return &pcr.Event{Type: pcr.EventApp, App: &pcr.AppEvent{App: "a", Unit: "a.service", User: user, UID: uid, Dynamic: dynamic, Users: users, Manifest: manifest, Digest: pcr.ManifestDigest(manifest)}}
	}
	for name, e := range map[string]*pcr.Event{
		"without a user":      event("", nil, true),
		"with a uid":          event("a", new(uint32(61200)), true),
		"with further users":  event("a", nil, true, pcr.AppUser{User: "b", UID: 8}),
		"no uid, not dynamic": event("a", nil, false),
	} {
		if b, err := e.Encode(); err == nil {
			t.Errorf("%s: %s", name, b)
		}
	}
	b, err := event("a", nil, true).Encode()
	if err != nil || !strings.Contains(string(b), `"user":"a","dynamic":true,"declaration"`) {
		t.Fatalf("%s, %v", b, err)
	}
	e, err := pcr.ParseEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[uint32]bool{0: false, 61183: false, 61184: true, 65519: true, 65520: false, 65534: false, math.MaxUint32: false} {
		if e.App.HasUser(uid) != want || pcr.DynamicUID(uid) != want {
			t.Errorf("has uid %d: %v", uid, !want)
		}
	}
	if static, err := event("a", new(uint32(61200)), false).Encode(); err != nil || strings.Contains(string(static), "dynamic") {
		t.Errorf("%s, %v", static, err)
	}
	if _, err := pcr.ParseEvent([]byte(strings.Replace(string(b), `"dynamic":true,`, `"dynamic":false,`, 1))); err == nil {
		t.Error("a user without a uid was read")
	}
}
