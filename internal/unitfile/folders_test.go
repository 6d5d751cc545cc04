// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestFolders: a unit is found in each folder of systemd, those of generators and of transient
// units too. Of two folders the one that systemd reads first has the unit.
func TestFolders(t *testing.T) {
	const text = "[Service]\nExecStart=/bin/true\nUser="
	for i, first := range folders {
		for j, later := range folders[i:] {
			files := map[string]string{later + "/a.service": text + "later", first + "/a.service": text + "first"}
			s, err := Load(tree(t, files), "a.service")
			if err != nil || s.User != "first" {
				t.Errorf("in %s before %s: %+v, %v", first, folders[i+j], s, err)
			}
		}
	}
}

// TestFoldersOfSystemd: the folders and their order are those of this machine's systemd. Its /lib
// is the same as /usr/lib, if it has one.
func TestFoldersOfSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	cmd := exec.CommandContext(t.Context(), analyze, "--system", "unit-paths")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "SYSTEMD_UNIT_PATH=") })
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	ofLib := func(dir string) bool { return dir == "/lib/systemd/system" }
	want := slices.DeleteFunc(strings.Fields(string(out)), ofLib)
	if got := slices.DeleteFunc(slices.Clone(folders), ofLib); !slices.Equal(got, want) {
		t.Errorf("folders\n%q\nof systemd\n%q", got, want)
	}
}
