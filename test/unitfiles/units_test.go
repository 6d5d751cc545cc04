// SPDX-License-Identifier: Apache-2.0

package unitfiles

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/collateral"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/delivery"
)

const folder = "../../systemd"

// analyze runs systemd-analyze, or skips if it is missing.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// read is a file of the units' folder.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// values are all values of a key, in their order.
func values(unit, key string) []string {
	var out []string
	for line := range strings.Lines(unit) {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return out
}

// TestUnitsAreInTheManual: agentd(8), which each unit names, says what each unit is.
func TestUnitsAreInTheManual(t *testing.T) {
	manual, err := os.ReadFile("../../packaging/agentd.8.md")
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(folder, "agentd*"))
	if err != nil || len(names) < 10 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		name = filepath.Base(name)
		switch filepath.Ext(name) {
		case ".service", ".socket", ".timer", ".target":
			if !strings.Contains(string(manual), "`"+name+"`") {
				t.Errorf("packaging/agentd.8.md does not say what %s is", name)
			}
		}
	}
}

// TestUnitsAreUnderstood has systemd read the units. The programs are replaced by one
// that is installed everywhere: verify wants to find them.
func TestUnitsAreUnderstood(t *testing.T) {
	dir := t.TempDir()
	names, err := filepath.Glob(filepath.Join(folder, "agentd*"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	programs := regexp.MustCompile(`/usr/s?bin/agent(d|ctl)\b|/usr/libexec/agentd/agentd-gate\b`)
	for _, name := range names {
		switch filepath.Ext(name) {
		case ".service", ".socket", ".target", ".timer":
			b := programs.ReplaceAllString(read(t, filepath.Base(name)), "/bin/true")
			to := filepath.Join(dir, filepath.Base(name))
			if err := os.WriteFile(to, []byte(b), 0o644); err != nil {
				t.Fatal(err)
			}
			args = append(args, to)
		}
	}
	if len(args) != 3+14 {
		t.Fatalf("units found: %v, want fourteen", args[3:])
	}
	if out, err := analyze(t, args...); err != nil || strings.Contains(out, dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestExposure: case 76.
func TestExposure(t *testing.T) {
	for unit, most := range map[string]float64{"agentd.service": 1.5, "agentd-configfs.service": 1.5, "agentd-azure.service": 1.5, "agentd-secrets.service": 2, "agentd-measured.service": 6, "agentd-gate.service": 2, "agentd-tunnel@.service": 1.5} {
		out, err := analyze(t, "security", "--offline=true", "--no-pager", filepath.Join(folder, unit))
		if err != nil {
			t.Fatalf("systemd-analyze security: %v\n%s", err, out)
		}
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no score in:\n%s", out)
		}
		score, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: exposure %v", unit, score)
		if score > most {
			t.Errorf("%s: exposure %v, want at most %v", unit, score, most)
		}
	}
}

// TestEntry: the unit that runs as root makes one entry, at the place where the agent looks, and
// does nothing else. No shell reads what it runs.
func TestEntry(t *testing.T) {
	agent, unit := read(t, "agentd.service"), read(t, "agentd-configfs.service")
	entry := config.Default().Report.ConfigFS
	for _, want := range []struct{ key, value string }{
		{"ExecCondition", "/usr/bin/mkdir --parents " + entry},
		{"ExecStart", "/usr/bin/chown --recursive agentd:agentd " + entry},
		{"ExecStop", "-/usr/bin/rmdir " + entry},
		{"ConditionPathIsDirectory", filepath.Dir(entry)},
		{"ReadWritePaths", filepath.Dir(entry)},
		{"CapabilityBoundingSet", "CAP_CHOWN"},
		{"NoNewPrivileges", "yes"},
		{"ProtectSystem", "strict"},
		{"Before", "agentd.service"},
		{"Restart", "on-failure"},
	} {
		if got := values(unit, want.key); !slices.Equal(got, []string{want.value}) {
			t.Errorf("%s=%q, want %q", want.key, got, want.value)
		}
	}
	for _, key := range []string{"Wants", "After"} {
		if !strings.Contains(strings.Join(values(agent, key), " "), "agentd-configfs.service") {
			t.Errorf("agentd.service: %s= without agentd-configfs.service", key)
		}
	}
	if got := strings.Join(values(agent, "ReadWritePaths"), " "); !strings.Contains(got, " -"+filepath.Dir(entry)) {
		t.Errorf("agentd.service: ReadWritePaths=%s: the agent cannot write to its entry", got)
	}
	if got := values(agent, "Requires"); strings.Contains(strings.Join(got, " "), "configfs") {
		t.Errorf("agentd.service: Requires=%q: machines without configfs-tsm have no entry", got)
	}
}

// TestAzure: the unit that fetches certificates reaches the metadata service alone, writes to the
// folder that the agent reads alone, has no privilege, and starts no agent that is stopped. Only an
// administrator enables its timer.
func TestAzure(t *testing.T) {
	unit, timer := read(t, "agentd-azure.service"), read(t, "agentd-azure.timer")
	certificates := config.Default().Report.CertificateFolder
	for _, want := range []struct{ key, value string }{
		{"ExecCondition", "/usr/bin/systemctl --quiet is-active agentd.service"},
		{"ExecStart", "/usr/bin/agentctl collateral fetch --azure --dir " + certificates + " --reload"},
		{"ConditionPathIsDirectory", certificates},
		{"ReadWritePaths", certificates},
		{"ProtectSystem", "strict"},
		{"CapabilityBoundingSet", ""},
		{"NoNewPrivileges", "yes"},
		{"IPAddressDeny", "any"},
		{"IPAddressAllow", strings.TrimPrefix(collateral.AzureBase, "http://")},
		{"RestrictAddressFamilies", "AF_UNIX AF_INET"},
	} {
		if got := values(unit, want.key); !slices.Equal(got, []string{want.value}) {
			t.Errorf("%s=%q, want %q", want.key, got, want.value)
		}
	}
	if got := values(timer, "WantedBy"); !slices.Equal(got, []string{"timers.target"}) || values(timer, "OnUnitActiveSec") == nil || values(timer, "OnBootSec") == nil {
		t.Errorf("the timer is %s", timer)
	}
	if preset := read(t, "agentd.preset"); !strings.Contains(preset, "\ndisable agentd-azure.timer\n") || strings.Contains(preset, "enable agentd-azure") {
		t.Errorf("the preset does not disable the timer:\n%s", preset)
	}
	if got := values(unit, "WantedBy"); got != nil {
		t.Errorf("the service can be enabled without its timer: %q", got)
	}
	names, err := filepath.Glob(filepath.Join(folder, "agentd*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name = filepath.Base(name); !strings.HasPrefix(name, "agentd-azure") && name != "agentd.preset" && strings.Contains(read(t, name), "agentd-azure") {
			t.Errorf("%s starts it", name)
		}
	}
	for _, script := range []string{"deb/postinst", "rpm/postun"} {
		if b, err := os.ReadFile(filepath.Join(folder, "../packaging", script)); err != nil || strings.Contains(string(b), "agentd-azure") {
			t.Errorf("%s enables or starts it (%v)", script, err)
		}
	}
}

// TestTunnel: a tunnel has no privilege and no files, starts no other program, and runs only if an
// administrator says so. Its socket is not reached from a network.
func TestTunnel(t *testing.T) {
	unit, socket := read(t, "agentd-tunnel@.service"), read(t, "agentd-tunnel@.socket")
	for _, want := range []struct{ key, value string }{
		{"User", "agentd-tunnel"},
		{"Group", "agentd-tunnel"},
		{"SupplementaryGroups", "agentd-clients"},
		{"ExecStart", "/usr/bin/agentctl tunnel $TUNNEL --config /etc/agentd/tunnels/%i.toml"},
		{"CapabilityBoundingSet", ""},
		{"NoNewPrivileges", "yes"},
		{"ProtectSystem", "strict"},
		{"ProtectHome", "yes"},
		{"NoExecPaths", "/"},
		{"ExecPaths", "/usr/bin/agentctl"},
		{"RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"},
		{"LimitCORE", "0"},
		{"Restart", "always"},
	} {
		if got := values(unit, want.key); !slices.Equal(got, []string{want.value}) {
			t.Errorf("%s=%q, want %q", want.key, got, want.value)
		}
	}
	for _, key := range []string{"ReadWritePaths", "AmbientCapabilities", "Requires", "BindsTo", "PartOf"} {
		if got := values(unit, key); got != nil {
			t.Errorf("%s=%q", key, got)
		}
	}
	if accounts := "\n" + read(t, "agentd.sysusers"); !strings.Contains(accounts, "\nu agentd-tunnel ") {
		t.Error("agentd.sysusers does not make the user")
	}
	if got := values(socket, "ListenStream"); !slices.Equal(got, []string{"/run/agentd-tunnel/%i.sock"}) {
		t.Errorf("ListenStream=%q", got)
	}
	preset := read(t, "agentd.preset")
	for _, name := range []string{"agentd-tunnel@.service", "agentd-tunnel@.socket"} {
		if !strings.Contains(preset, "\ndisable "+name+"\n") {
			t.Errorf("the preset does not disable %s", name)
		}
	}
	for _, script := range []string{"deb/postinst", "rpm/postun"} {
		if b, err := os.ReadFile(filepath.Join(folder, "../packaging", script)); err != nil || strings.Contains(string(b), "agentd-tunnel@") {
			t.Errorf("%s enables, starts or restarts a tunnel (%v)", script, err)
		}
	}
}

// TestCarrier: the unit that takes secrets from the network has no privilege, starts no other program, cannot
// leave its control group, by which the agent tells it, and does not see what else takes orders from root. Only
// an administrator enables it.
func TestCarrier(t *testing.T) {
	unit := read(t, delivery.Unit)
	for _, want := range []struct{ key, value string }{
		{"ExecStart", "/usr/bin/agentctl secret serve /etc/agentd/deliveries.toml"},
		{"ConditionPathExists", "/etc/agentd/deliveries.toml"},
		{"CapabilityBoundingSet", ""},
		{"NoNewPrivileges", "yes"},
		{"ProtectSystem", "strict"},
		{"ProtectHome", "yes"},
		{"ProtectControlGroups", "yes"},
		{"ProtectProc", "invisible"},
		{"RestrictNamespaces", "yes"},
		{"PrivateMounts", "yes"},
		{"NoExecPaths", "/"},
		{"ExecPaths", "/usr/bin/agentctl"},
		{"LimitCORE", "0"},
	} {
		if got := values(unit, want.key); !slices.Equal(got, []string{want.value}) {
			t.Errorf("%s=%q, want %q", want.key, got, want.value)
		}
	}
	for _, key := range []string{"ReadWritePaths", "AmbientCapabilities", "Delegate"} {
		if got := values(unit, key); got != nil {
			t.Errorf("%s=%q", key, got)
		}
	}
	hidden := strings.Fields(strings.Join(values(unit, "InaccessiblePaths"), " "))
	for _, path := range []string{"/run/dbus", "/run/systemd/private", "/run/docker.sock", "/run/containerd", "/run/podman", "/run/crio", "/etc/ssh", "/var/lib/systemd"} {
		if !slices.Contains(hidden, "-"+path) {
			t.Errorf("%s is not hidden", path)
		}
	}
	for _, path := range hidden { // one that is not on a machine must not keep the unit from starting
		if !strings.HasPrefix(path, "-/") {
			t.Errorf("InaccessiblePaths has %s, want it with a dash", path)
		}
	}
	if preset := read(t, "agentd.preset"); !strings.Contains(preset, "\ndisable "+delivery.Unit+"\n") {
		t.Errorf("the preset does not disable it:\n%s", preset)
	}
	for _, script := range []string{"deb/postinst", "rpm/postun"} { // strangers reach it: an upgrade replaces what runs
		b, err := os.ReadFile(filepath.Join(folder, "../packaging", script))
		if err != nil {
			t.Fatal(err)
		}
		restarts := regexp.MustCompile(`(?m)^\t+(deb-systemd-invoke|systemctl) try-restart (agentd\.service )?` + delivery.Unit + ` `)
		if n := strings.Count(string(b), delivery.Unit); n != 1 || !restarts.Match(b) {
			t.Errorf("%s names it %d times: want that it restarts it if it runs, and nothing else", script, n)
		}
	}
}

// TestPackaged: the packages contain each file of the units' folder.
func TestPackaged(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(folder, "../packaging/agentd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(folder)
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if !strings.Contains(string(b), "{src: systemd/"+f.Name()+", ") {
			t.Errorf("agentd.yaml does not have systemd/%s", f.Name())
		}
	}
}

// TestRestarts: ten kills in a row do not reach the limit of starts, and a
// configuration that cannot be used is not tried again (case 78).
func TestRestarts(t *testing.T) {
	unit := read(t, "agentd.service")
	burst, err := strconv.Atoi(strings.Join(values(unit, "StartLimitBurst"), ","))
	if err != nil || burst < 2*10 {
		t.Errorf("StartLimitBurst=%d (%v), want twice ten kills at least", burst, err)
	}
	if got := values(unit, "RestartPreventExitStatus"); len(got) != 1 || got[0] != "78" {
		t.Errorf("RestartPreventExitStatus=%v, want 78, with which agentd refuses a configuration", got)
	}
	// systemd answers openat2(2) with ENOSYS under this setting, and nothing can be measured.
	if got := values(unit, "RestrictSUIDSGID"); len(got) != 0 {
		t.Errorf("RestrictSUIDSGID=%v: the agent cannot open what it measures", got)
	}
}

// TestPrivileges: case 77. The daemon changes no user itself: systemd starts it as its
// user or, if that or a group is missing, not at all.
func TestPrivileges(t *testing.T) {
	unit, accounts := read(t, "agentd.service"), "\n"+read(t, "agentd.sysusers")
	for _, want := range []struct{ key, value, line string }{
		{"User", "agentd", "u agentd "},
		{"Group", "agentd", "u agentd "},
		{"SupplementaryGroups", "tss", "g tss "},
		{"ExecStart", "/usr/sbin/agentd", ""}, // no + or ! before it, which would start it as root
		{"NoNewPrivileges", "yes", ""},
	} {
		if got := values(unit, want.key); len(got) != 1 || got[0] != want.value {
			t.Errorf("%s=%v, want %s", want.key, got, want.value)
		}
		if want.line != "" && !strings.Contains(accounts, "\n"+want.line) {
			t.Errorf("%s=%s, and agentd.sysusers does not make it", want.key, want.value)
		}
	}
}

// TestSockets holds names and modes to what the daemon takes over.
func TestSockets(t *testing.T) {
	for _, want := range []struct{ file, name, path, mode, group string }{
		{"agentd.socket", "client", "/run/agentd/agentd.sock", "0660", "agentd-clients"},
		{"agentd-admin.socket", "admin", "/run/agentd/admin.sock", "0600", "root"},
		{"agentd-credentials.socket", "credentials", "/run/agentd/credentials.sock", "0600", "root"},
		{"agentd-gate.socket", "gate", "/run/agentd/gate.sock", "0600", "root"},
	} {
		unit := read(t, want.file)
		for key, value := range map[string]string{
			"FileDescriptorName": want.name, "ListenStream": want.path, "SocketMode": want.mode, "SocketGroup": want.group,
		} {
			if got := values(unit, key); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %s=%v, want %s", want.file, key, got, value)
			}
		}
	}
}

// TestNobodyIsStoppedByUs: a restart of the agent must not stop what was started after
// its measurements.
func TestNobodyIsStoppedByUs(t *testing.T) {
	for _, name := range []string{"agentd-measured.service", "agentd-measured.target"} {
		unit := read(t, name)
		for _, key := range []string{"Requires", "BindsTo", "PartOf", "Requisite"} {
			if got := values(unit, key); len(got) > 0 {
				t.Errorf("%s: %s=%v", name, key, got)
			}
		}
	}
}

// TestAccounts has systemd-sysusers and systemd-tmpfiles read their files.
func TestAccounts(t *testing.T) {
	for _, want := range []struct{ program, file, finds string }{
		{"systemd-sysusers", "agentd.sysusers", "etc/passwd"},
		{"systemd-tmpfiles", "agentd.tmpfiles", "var/lib/agentd"},
	} {
		t.Run(want.program, func(t *testing.T) {
			program, err := exec.LookPath(want.program)
			if err != nil {
				t.Skipf("%s is not installed", want.program)
			}
			if os.Geteuid() != 0 {
				t.Skip("must be root to make accounts and folders in a scratch root")
			}
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			sysusers, err := exec.LookPath("systemd-sysusers")
			if err != nil {
				t.Skip("systemd-sysusers is not installed")
			}
			file := func(name string) string {
				path, err := filepath.Abs(filepath.Join(folder, name))
				if err != nil {
					t.Fatal(err)
				}
				return path
			}
			if out, err := exec.Command(sysusers, "--root="+root, file("agentd.sysusers")).CombinedOutput(); err != nil {
				t.Fatalf("systemd-sysusers: %v\n%s", err, out)
			}
			if want.program == "systemd-tmpfiles" {
				if out, err := exec.Command(program, "--root="+root, "--create", file(want.file)).CombinedOutput(); err != nil {
					t.Fatalf("systemd-tmpfiles: %v\n%s", err, out)
				}
			}
			if _, err := os.Stat(filepath.Join(root, want.finds)); err != nil {
				t.Error(err)
			}
			groups, err := os.ReadFile(filepath.Join(root, "etc/group"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"agentd", "agentd-clients", "tss"} {
				if !strings.Contains("\n"+string(groups), "\n"+name+":") {
					t.Errorf("no group %s in:\n%s", name, groups)
				}
			}
		})
	}
}

// TestOtherProcesses: with CAP_SYS_PTRACE, which the agent has for reading, each of
// these reaches into other processes, root's too. The groups of the other lines allow
// some of them, so they are named.
func TestOtherProcesses(t *testing.T) {
	var refused []string
	for _, v := range values(read(t, "agentd.service"), "SystemCallFilter") {
		if names, ok := strings.CutPrefix(v, "~"); ok {
			refused = append(refused, strings.Fields(names)...)
		}
	}
	known, err := analyze(t, "syscall-filter", "--no-pager", "@known")
	if err != nil {
		t.Fatalf("systemd-analyze syscall-filter: %v\n%s", err, known)
	}
	for _, name := range []string{
		"process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
		"pidfd_getfd", "ptrace", "perf_event_open", "userfaultfd",
	} {
		if !slices.Contains(refused, name) {
			t.Errorf("%s is not refused", name)
		}
		if !slices.Contains(strings.Fields(known), name) {
			t.Errorf("systemd does not know %s and would pass over it", name)
		}
	}
}

// TestMemory: the collector works harder before the kernel ends the process.
func TestMemory(t *testing.T) {
	for name, want := range map[string]struct{ most, collects string }{"agentd.service": {"1G", "768MiB"}, "agentd-tunnel@.service": {"512M", "384MiB"}, delivery.Unit: {"256M", "192MiB"}} {
		unit := read(t, name)
		if got := values(unit, "MemoryMax"); !slices.Equal(got, []string{want.most}) {
			t.Errorf("%s: MemoryMax=%v, want %s", name, got, want.most)
		}
		if got := values(unit, "Environment"); !slices.Contains(got, "GOMEMLIMIT="+want.collects) {
			t.Errorf("%s: Environment=%v, want three quarters of MemoryMax as GOMEMLIMIT", name, got)
		}
	}
}
