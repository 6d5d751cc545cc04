// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestUnchanged: only what can be read from the file again is given back.
func TestUnchanged(t *testing.T) {
	mapping := func(line, anonymous string) string {
		return line + "\nRss:                5920 kB\nPrivate_Dirty:      5920 kB\nAnonymous:          " + anonymous + " kB\nVmFlags: rd ex mr mw me\n"
	}
	const program = "/usr/sbin/agentd"
	for name, c := range map[string]struct {
		smaps string
		want  []span
	}{
		"text and data of the program": {mapping("1000-3000 r-xp 00000000 fe:00 1007 "+program, "0") + mapping("3000-9000 r--p 00002000 fe:00 1007 "+program, "0"),
			[]span{{0x1000, 0x3000}, {0x3000, 0x9000}}},
		"relocated":          {mapping("1000-3000 r--p 00000000 fe:00 1007 "+program, "8"), nil},
		"can be written":     {mapping("1000-3000 rw-p 00000000 fe:00 1007 "+program, "0"), nil},
		"code of a debugger": {mapping("1000-3000 r-xp 00000000 fe:00 1007 "+program, "4"), nil},
		"shared":             {mapping("1000-3000 r--s 00000000 fe:00 1007 "+program, "0"), nil},
		"another file":       {mapping("1000-3000 r--p 00000000 fe:00 1007 /usr/lib/locale", "0"), nil},
		"replaced":           {mapping("1000-3000 r--p 00000000 fe:00 1007 "+program+" (deleted)", "0"), nil},
		"no file":            {mapping("1000-3000 r--p 00000000 00:00 0", "0"), nil},
		"no such address":    {mapping("x-y r--p 00000000 fe:00 1007 "+program, "0"), nil},
		"nothing is said":    {"1000-3000 r--p 00000000 fe:00 1007 " + program + "\nRss: 1 kB\n3000-4000 rw-p 00000000 00:00 0\nAnonymous: 0 kB\n", nil},
	} {
		if got := unchanged(strings.NewReader(c.smaps), program); !slices.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
	}
}

// TestGiveBack: the pages of this program are given back when it is idle, and the program runs on.
func TestGiveBack(t *testing.T) {
	mapped := func() (kB int) {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "RssFile:")
		if _, err := fmt.Sscan(rest, &kB); err != nil {
			t.Fatal(err)
		}
		return kB
	}
	before := mapped()
	giveBack()
	if after := mapped(); after > before*3/4 {
		t.Errorf("%d kB of files are mapped, %d were", after, before)
	}
}
