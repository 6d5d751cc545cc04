// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"strings"
	"testing"
)

// The address of a peer is read as systemd writes it, and in no other way.
func TestParse(t *testing.T) {
	long := strings.Repeat("a", 200)
	for address, want := range map[string][3]string{
		"\x006fd51804c2dc1cab/unit/billing.service/db-password": {"credential", "billing.service", "db-password"},
		"\x009ea8e5849336e1a/unit/worker@a-b.service/tls.key":   {"credential", "worker@a-b.service", "tls.key"}, // a short number
		"\x000/unit/dev-sda1.swap/key":                          {"credential", "dev-sda1.swap", "key"},
		"\x001/unit/a.service/" + long:                          {"credential", "a.service", long},
		"\x001/unit/a.socket/k":                                 {"credential", "a.socket", "k"},
		"\x00bcf267548f214cc4/cryptsetup/data":                  {"volume", "systemd-cryptsetup@data.service", "data"},
		"\x00bcf267548f214cc4/cryptsetup/luks-1 b":              {"volume", `systemd-cryptsetup@luks\x2d1\x20b.service`, "luks-1 b"},
		"\x001/cryptsetup/" + strings.Repeat("x", 127):          {"volume", "systemd-cryptsetup@" + strings.Repeat("x", 127) + ".service", strings.Repeat("x", 127)},
	} {
		if got, err := parse([]byte(address)); err != nil || got != (Asked{Kind: Kind(want[0]), Unit: want[1], Name: want[2]}) {
			t.Errorf("%q: %+v, %v; want %+v", address, got, err, want)
		}
	}
	for _, address := range []string{
		"", "\x00", "@1/unit/a.service/k", "1/unit/a.service/k", "\x00/unit/a.service/k",
		"\x00x/unit/a.service/k", "\x001A/unit/a.service/k", "\x0012345678901234567/unit/a.service/k",
		"\x001", "\x001/", "\x001/unit", "\x001/unit/", "\x001/unit/a.service", "\x001/unit/a.service/", "\x001/unit//k",
		"\x001/unit/a.service/k/l", "\x001/unit/a.service/k\x00", "\x001/unit/a.service/k\x00junk", "\x001/unit/a.service/../k",
		"\x001/unit/a.service/a:b", "\x001/unit/a.service/a b", "\x001/unit/a.service/.", "\x001/unit/a.service/é",
		"\x001/unit/a.service/" + long + "a", "\x001/unit/a@.service/k", "\x001/unit/a.timer/k", "\x001/unit/a/k", "\x001/unit/a.slice/k",
		"\x001/Unit/a.service/k", "\x001/unit/a.service\n/k", "\x001/file/x", "\x001//unit/a.service/k",
		"\x001/cryptsetup/", "\x001/cryptsetup", "\x001/cryptsetup/a/b", "\x001/cryptsetup/a\x00", "\x001/cryptsetup/a\n", "\x001/cryptsetup/" + strings.Repeat("x", 128),
		"\x001/cryptsetup/" + strings.Repeat("-", 127), // escaped, no unit can have that name
	} {
		if got, err := parse([]byte(address)); err == nil || got != (Asked{}) {
			t.Errorf("%q: %+v, %v; want a refusal", address, got, err)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add([]byte("\x006fd51804c2dc1cab/unit/billing.service/db-password"))
	f.Add([]byte("\x00bcf267548f214cc4/cryptsetup/luks-1 b"))
	f.Fuzz(func(t *testing.T, address []byte) {
		a, err := parse(address)
		if err != nil {
			return
		}
		// What it accepts is said again in exactly one way.
		random, _, _ := strings.Cut(string(address[1:]), "/")
		again := "\x00" + random + "/unit/" + a.Unit + "/" + a.Name
		if a.Kind == Volume {
			again = "\x00" + random + "/cryptsetup/" + a.Name
		}
		if again != string(address) {
			t.Fatalf("%q was read as %+v", address, a)
		}
	})
}
