// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cryptsetup returns the path of systemd-cryptsetup, or skips.
func cryptsetup(t *testing.T) string {
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip("cryptsetup is not installed: scripts/setup.sh installs it")
	}
	for _, path := range []string{"/usr/bin/systemd-cryptsetup", "/usr/lib/systemd/systemd-cryptsetup", "/lib/systemd/systemd-cryptsetup"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skip("systemd-cryptsetup is not installed")
	return ""
}

// ofVolume returns the service of a volume, as systemd's generator and the drop-in of agentctl make
// it. The key slot is one that no volume has: so nothing is opened, on no machine.
func ofVolume(name, prepare, options string) string {
	return "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n" + prepare +
		"ExecStart=@CRYPTSETUP@ attach " + name + " @DIR@/volume @DIR@/m/credentials.sock " + options + ",key-slot=31,headless=true,tries=1\nStandardError=append:@DIR@/said\n"
}

// TestVolume has the systemd-cryptsetup of a real systemd ask for the key of a volume. It gets it if it
// reads the checked copy of the header, and only then; a unit of another volume, or a process outside,
// gets none.
func TestVolume(t *testing.T) {
	program := cryptsetup(t)
	const prepare = "ExecStartPre=@DIR@/bin/agentctl --admin @DIR@/m/admin.sock disk prepare data\n"
	of := map[string]string{
		"systemd-cryptsetup@data.service":  ofVolume("data", prepare, "luks,header=@DIR@/m-disks/data.header"),
		"bare.service":                     ofVolume("data", prepare, "luks,header=@DIR@/m-disks/data.header"),
		"systemd-cryptsetup@other.service": ofVolume("data", prepare, "luks,header=@DIR@/m-disks/data.header"),
		"asks.service":                     "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nEnvironment=AGENTD_TEST_ASKS=/cryptsetup/data\nExecStart=@DIR@/bin/test @DIR@/m/credentials.sock\nStandardOutput=file:@DIR@/out/asks.service\n",
	}
	files := map[string]string{"units/agentd-sim.service": strings.Replace(units["agentd-sim.service"], "--dir", "--log-level info --dir", 1)}
	for name, text := range of {
		files["units/"+name] = strings.ReplaceAll(text, "@CRYPTSETUP@", program)
	}
	m := newMachine(t, files)
	device := filepath.Join(m.dir, "volume")
	recovery := filepath.Join(m.dir, "recovery.key")
	for _, f := range []string{device, recovery} {
		if err := os.WriteFile(f, []byte("recovery"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(device, 17<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", recovery, device).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.agentctl("", "disk", "enroll", device, "--name", "data", "--key-file", recovery, "--no-crypttab")

	// The agent says what it did before or after systemd-cryptsetup says what that came to.
	started := func(unit, want string) string {
		t.Helper()
		before := len(m.said())
		if got := m.startUnit(unit); got == "success" && unit != "asks.service" {
			t.Errorf("%s opened a volume with a key slot that it does not have", unit)
		}
		until(t, "the agent says: "+want, func() bool { return strings.Contains(m.said()[before:], want) })
		return m.said()[before:]
	}
	const handed = "volume data of unit systemd-cryptsetup@data.service was handed out"
	started("systemd-cryptsetup@data.service", handed)
	for unit, why := range map[string]string{"bare.service": "other-unit", "systemd-cryptsetup@other.service": "other-unit", "asks.service": "other-unit"} {
		if said := started(unit, why); strings.Contains(said, "was handed out") {
			t.Errorf("%s got the key:\n%s", unit, said)
		}
	}

	// The owner of the disk changes one bit of a key slot: the unit does not come to ask.
	good, err := os.ReadFile(device)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[40000] ^= 1
	if err := os.WriteFile(device, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := started("systemd-cryptsetup@data.service", "disk-changed"); strings.Contains(said, "was handed out") {
		t.Errorf("a changed header:\n%s", said)
	}
	if err := os.WriteFile(device, good, 0o600); err != nil {
		t.Fatal(err)
	}
	started("systemd-cryptsetup@data.service", handed)
}
