// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/test/jsonschema"
	"github.com/cvm-agentd/agentd/verify"
)

// launchFolder changes into a folder with what guests are launched from.
func launchFolder(t *testing.T) {
	t.Helper()
	plain := launchtest.OVMF() // without a place for hashes
	plain.Set(launchtest.GUIDHashTable, nil)
	dir := folder(t, map[string][]byte{
		"OVMF.fd": launchtest.OVMF().Bytes(), "plain.fd": plain.Bytes(), "svsm.bin": launchtest.Coconut().Bytes(),
		"vmlinuz": []byte("kernel"), "initrd.img": []byte("initrd"), "half.fd": launchtest.OVMF().Bytes()[:0x2000],
	})
	t.Chdir(dir)
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
}

// absolute returns a path that stays after a change of folder.
func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// launchRulesOf checks that text is rules of a policy, and returns them.
func launchRulesOf(t *testing.T, text string) []verify.Launch {
	t.Helper()
	p, err := verify.ParsePolicy([]byte("version = 1\n" + text))
	if err != nil {
		t.Fatalf("not rules of a policy: %v\n%s", err, text)
	}
	return p.Launches
}

// TestPolicyLaunch: what the command prints is [[launch]] rules, one for each number of
// processors, with the kind and cover that are true. The values are those of another tool,
// sev-snp-measure 0.0.13.
func TestPolicyLaunch(t *testing.T) {
	schemas := absolute(t, schemaFolder)
	launchFolder(t)
	for _, c := range []struct {
		args         string
		kind         verify.Kind
		covers       verify.Cover
		measurements []string // beginnings
		says         string
	}{
		{"--vcpus 1,3 --cpu EPYC-Genoa", "plain", "firmware", []string{"212762c76cca", "a8ef7517c838"}, "shows in PCRs alone"},
		{"--vcpus 3 --cpu 0xa10f10 --vmm qemu --guest-features 1", "plain", "firmware", []string{"a8ef7517c838"}, "CPU signature 0xa10f10"},
		{"--vcpus 1 --vmm ec2", "plain", "firmware", []string{"8370388a11d3"}, "compare with a report"},
		{"--vcpus 3 --vmm gce --cpu EPYC-Milan", "plain", "firmware", []string{"421d491ba8ec"}, "compare with a report"},
		{"--vcpus 2 --cpu EPYC-Genoa --kernel vmlinuz --initrd initrd.img --append root=/dev/vda_ro --guest-features 0x21", "plain", "firmware+kernel+cmdline", []string{"d4d0940cce47"}, `command line "root=/dev/vda ro"`},
		{"--vcpus 2 --cpu EPYC-Genoa --kernel vmlinuz", "plain", "firmware+kernel+cmdline", []string{"64a4f7c88c97"}, `initrd none, command line ""`},
		{"--vcpus 3,1 --cpu EPYC-Genoa --svsm svsm.bin --vars-size 8192", "plain", "firmware", []string{"914b2ec0a914", "8b70fca78a20"}, `add --kind svsm`},
		{"--vcpus 3,1 --cpu EPYC-Genoa --svsm svsm.bin --vars-size 8192 --kind svsm", "svsm", "firmware", []string{"914b2ec0a914", "8b70fca78a20"}, `DANGER: kind = "svsm" believes`},
	} {
		args := append([]string{"policy", "launch", "--firmware", "OVMF.fd"}, strings.Fields(c.args)...)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		code, out, stderr := agentctl(t, args...)
		if code != exitOK || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit code %d\n%s%s", c.args, code, out, stderr)
			continue
		}
		text, rules := out, launchRulesOf(t, out)
		if len(rules) != len(c.measurements) {
			t.Errorf("%s: %d rules", c.args, len(rules))
			continue
		}
		for i, r := range rules {
			if !strings.HasPrefix(r.Measurement, c.measurements[i]) || r.Kind != c.kind || r.Covers != c.covers || r.Label == "" {
				t.Errorf("%s: %+v", c.args, r)
			}
		}
		code, out, stderr = agentctl(t, append(args, "--json")...)
		jsonschema.FitsFile(t, filepath.Join(schemas, "policy-launch.json"), c.args, []byte(out))
		var v launchRulesRead
		if err := json.Unmarshal([]byte(out), &v); code != exitOK || err != nil || len(v.Launches) != len(rules) {
			t.Fatalf("%s: exit code %d, %v\n%s%s", c.args, code, err, out, stderr)
		}
		if all := strings.Join(v.Notes, "\n# "); !strings.Contains(all, c.says) || !strings.Contains(text, "# "+all+"\n") {
			t.Errorf("%s: the notes of the JSON are\n%s\nand the text is\n%s", c.args, all, text)
		}
		for i, r := range rules {
			if l := v.Launches[i]; l.Measurement != r.Measurement || l.Kind != string(r.Kind) || l.Covers != string(r.Covers) || l.Label != r.Label {
				t.Errorf("%s: JSON says %+v, the rule %+v", c.args, l, r)
			}
		}
	}
}

// launchRulesRead is launchRules as a program reads them.
type launchRulesRead struct {
	Launches []struct{ Measurement, Kind, Covers, Label string }
	Notes    []string
}

// TestPolicyLaunchRefuses: what cannot be measured is an error that says what to do, and no
// rule is printed.
func TestPolicyLaunchRefuses(t *testing.T) {
	launchFolder(t)
	for _, c := range []struct{ args, want string }{
		{"--vcpus 1 --cpu EPYC", "--firmware is missing"},
		{"--firmware OVMF.fd --cpu EPYC", "--vcpus is missing"},
		{"--firmware OVMF.fd --vcpus 1", "--cpu is missing"},
		{"--firmware OVMF.fd --vcpus 1 --cpu host", "neither a model such as EPYC-Genoa nor a signature"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --vmm xen", `VMM "xen" is not known: want qemu, ec2, gce`},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --guest-features 0", "bit 0 is always one"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --guest-features 2", "without bit 0"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --guest-features x", "want a whole number that is not negative"},
		{"--firmware OVMF.fd --vcpus 0 --cpu EPYC", "0 processors, want 1 to 4096"},
		{"--firmware OVMF.fd --vcpus 1,1 --cpu EPYC", "given twice"},
		{"--firmware OVMF.fd --vcpus 1,, --cpu EPYC", `--vcpus "1,,": want numbers`},
		{"--firmware OVMF.fd --vcpus -1 --cpu EPYC", `--vcpus "-1": want numbers`},
		{"--firmware OVMF.fd --vcpus 99999999999999999999 --cpu EPYC", "want numbers"},
		{"--firmware half.fd --vcpus 1 --cpu EPYC", "firmware: no table of GUIDs"},
		{"--firmware vmlinuz --vcpus 1 --cpu EPYC", "firmware: 6 bytes: an image has"},
		{"--firmware plain.fd --vcpus 1 --cpu EPYC --kernel vmlinuz", "leave out the kernel"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --initrd initrd.img", "a kernel must be given too"},
		{"--firmware OVMF.fd --vcpus 1 --vmm ec2 --kernel vmlinuz", "does not boot a kernel directly"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --svsm svsm.bin --vars-size 1", "want whole pages"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --vars-size 4096", "counts only with an SVSM"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --kind svsm", "--kind svsm is for --svsm"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --kind paravisor", "a paravisor cannot be computed"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC --svsm svsm.bin --kind SVSM", `--kind "SVSM": want plain or svsm`},
		{"--firmware missing --vcpus 1 --cpu EPYC", "no such file"},
		{"--firmware . --vcpus 1 --cpu EPYC", "is not a regular file"},
		{"--firmware pipe --vcpus 1 --cpu EPYC", "is not a regular file"},
		{"--firmware - --vcpus 1 --cpu EPYC", "of which the size is not known"},
		{"--firmware OVMF.fd --vcpus 1 --cpu EPYC more", "unexpected argument"},
	} {
		code, out, stderr := agentctl(t, append([]string{"policy", "launch"}, strings.Fields(c.args)...)...)
		if code != exitMisuse || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %q, %q, want %q", c.args, code, out, stderr, c.want)
		}
	}
}

// TestPolicyLaunchNames: no name of a file and no command line leaves its comment.
func TestPolicyLaunchNames(t *testing.T) {
	launchFolder(t)
	evil := "a\n[[launch]]\nmeasurement = \"00\"\x1b[2J"
	for from, to := range map[string]string{"OVMF.fd": evil + ".fd", "vmlinuz": evil, "svsm.bin": evil + ".svsm"} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	base := []string{"policy", "launch", "--firmware", evil + ".fd", "--vcpus", "1", "--cpu", "EPYC"}
	for _, more := range [][]string{{"--kernel", evil, "--append", evil}, {"--svsm", evil + ".svsm"}} {
		code, out, stderr := agentctl(t, append(base, more...)...)
		if code != exitOK || strings.Contains(out, "\x1b") || len(launchRulesOf(t, out)) != 1 {
			t.Errorf("exit code %d, %q, %s", code, out, stderr)
		}
	}
}

// TestPolicyLaunchRecordings measures the recordings of another tool by the command.
func TestPolicyLaunchRecordings(t *testing.T) {
	const set = "virtee_sev-snp-measure/"
	var all []struct {
		Mode, VMM, CPU, Firmware, Measurement string
		Kernel, Initrd, Append                *string
		VCPUs                                 int
		Signature                             uint32 `json:"cpu_signature"`
		Features                              uint64 `json:"guest_features"`
	}
	if err := json.Unmarshal(vectors.Read(t, set+"measurements.json"), &all); err != nil || len(all) != 29 {
		t.Fatalf("%d recordings: %v", len(all), err)
	}
	dir := vectors.Dir(t) + "/" + set
	for i, r := range all {
		args := []string{"policy", "launch", "--firmware", dir + r.Firmware, "--vmm", strings.ToLower(r.VMM), "--vcpus", fmt.Sprint(r.VCPUs), "--cpu", r.CPU, "--guest-features", fmt.Sprint(r.Features)}
		if strings.Contains(r.CPU, " ") {
			args[9] = fmt.Sprint(r.Signature)
		}
		for flag, v := range map[string]*string{"--kernel": r.Kernel, "--initrd": r.Initrd} {
			if v != nil {
				args = append(args, flag, dir+*v)
			}
		}
		if r.Append != nil && *r.Append != "" {
			args = append(args, "--append", *r.Append)
		}
		if r.Mode == "svsm" {
			args = append(args, "--svsm", dir+"svsm.bin", "--vars-size", "540672")
		}
		code, out, stderr := agentctl(t, args...)
		if strings.HasPrefix(r.Measurement, "error") {
			if code != exitMisuse || out != "" || !strings.Contains(stderr, "leave out the kernel") {
				t.Errorf("%d: exit code %d, %s%s", i, code, out, stderr)
			}
			continue
		}
		if code != exitOK || !strings.Contains(out, `measurement = "`+r.Measurement+`"`) {
			t.Errorf("%d: exit code %d, %s%s, want %s", i, code, out, stderr, r.Measurement)
		}
	}
}

// TestLaunchDocumentation runs the sessions of docs/launch.md, and compares their output.
func TestLaunchDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/launch.md")
	if err != nil {
		t.Fatal(err)
	}
	launchFolder(t)
	idKeys(t, "id.pem")
	sessions := regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	commands := 0
	for _, s := range sessions {
		for _, part := range strings.Split("\n"+s[1], "\n$ ")[1:] {
			line, rest := "", part
			for more := true; more; {
				var one string
				one, rest, _ = strings.Cut(rest, "\n")
				one, more = strings.CutSuffix(one, "\\")
				line += one
			}
			code, out, stderr := agentctl(t, shellWords(line)[1:]...)
			if want := strings.TrimRight(rest, "\n"); code != exitOK || strings.TrimRight(out, "\n") != want {
				t.Errorf("%s: exit code %d, it prints\n%s%s\nthe page says\n%s", line, code, out, stderr, want)
			}
			commands++
		}
	}
	if commands < 3 {
		t.Errorf("the page has %d commands", commands)
	}
}

// shellWords splits a command line, in which words can be quoted.
func shellWords(line string) (out []string) {
	for _, m := range regexp.MustCompile(`"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}
