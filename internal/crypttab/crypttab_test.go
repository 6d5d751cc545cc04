// SPDX-License-Identifier: Apache-2.0

package crypttab

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for _, name := range []string{"data", "pg-data_1", "0", strings.Repeat("a", MaxName)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "-a", "_a", "a/b", "../a", "a b", "a.b", "a\n", "é", "a%i", strings.Repeat("a", MaxName+1)} {
		if CheckName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	if got := Unit("pg-data"); got != `systemd-cryptsetup@pg\x2ddata.service` {
		t.Error(got)
	}
	if got := HeaderFile(HeaderFolder("/run/agentd/admin.sock"), "data"); got != "/run/agentd-disks/data.header" {
		t.Error(got)
	}
}

// TestTable: the line of a volume replaces its own, and every other line stays as it is.
func TestTable(t *testing.T) {
	line := Line("data", "u", "/s", "/h")
	if line != "data UUID=u /s luks,header=/h,headless=true,tries=1,_netdev\n" {
		t.Error(line)
	}
	for before, after := range map[string]string{
		"":                                  line,
		"# comment\nother /dev/x none luks": "# comment\nother /dev/x none luks\n" + line,
		"data /dev/y none\nother /dev/x\n":  "other /dev/x\n" + line,
		"\n  data /dev/y\n#data /dev/z\ndata2 /dev/y\n": "\n#data /dev/z\ndata2 /dev/y\n" + line,
	} {
		got := Put([]byte(before), "data", line)
		if string(got) != after {
			t.Errorf("%q: %q, want %q", before, got, after)
		}
		if Find(got, "data") != line || Find(got, "dat") != "" {
			t.Errorf("%q: the line is not found", got)
		}
		if string(Put(got, "data", line)) != after {
			t.Errorf("%q: a second time changes more", before)
		}
		if rest := Remove(got, "data"); Find(rest, "data") != "" || string(rest)+line != after {
			t.Errorf("%q: removed: %q", before, rest)
		}
	}
}

// TestOwnCommand: systemd-cryptsetup that was started by the line of a volume passes.
func TestOwnCommand(t *testing.T) {
	f := strings.Fields(Line("data", "u", "/s", "/h"))
	if err := CheckCommand([]string{"/usr/bin/systemd-cryptsetup", "attach", f[0], "/dev/disk/by-uuid/u", f[2], f[3]}, "data", "/h"); err != nil {
		t.Error(err)
	}
	if !Ours(DropIn("data")) || Ours([]byte("[Unit]\n")) {
		t.Error("a drop-in is not told apart")
	}
}
