// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/imapolicy"
)

// imaRoot makes the folder of a machine with an application: a program, a library, a script that an
// interpreter reads, and data that is left out.
func imaRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, f := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"etc/passwd":                   {"root:x:0:0::/root:/bin/sh\nbilling:x:990:990::/:/bin/sh\n", 0o644},
		"etc/agentd/apps.d/bill.toml":  {"unit = \"bill.service\"\nuser = \"billing\"\nfiles = [\"/opt/bin/bill\"]\ndirectories = [\"/opt/lib\"]\nexclude = [\"/opt/lib/var\"]\n", 0o644},
		"etc/agentd/apps.d/other.toml": {"unit = \"other.service\"\nuser = \"stranger\"\nfiles = [\"/opt/bin/bill\"]\n", 0o644},
		"etc/agentd/apps.d/come.toml":  {"unit = \"come.service\"\nuser = \"come\"\ndynamic_user = true\nfiles = [\"/opt/bin/bill\"]\n", 0o644},
		"opt/bin/bill":                 {"\x7fELF program", 0o755},
		"opt/lib/libbill.so":           {"\x7fELF library", 0o644},
		"opt/lib/main.py":              {"print()", 0o644},
		"opt/lib/var/data":             {"data", 0o644},
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.text), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// kernelOf gives a machine a kernel with this command line, and a policy that it shows if that is
// not empty.
func kernelOf(t *testing.T, root, line, policy string) {
	t.Helper()
	for name, text := range map[string]string{kernelCommands: line, imaPolicyFile: policy} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIMACovers: what the running policy measures of an application is said file by file, and a
// policy that measures the rest is printed.
func TestIMACovers(t *testing.T) {
	root := imaRoot(t)
	declared, err := declarations(root)
	if err != nil || len(declared) != 3 {
		t.Fatal(declared, err)
	}
	var out, complaints bytes.Buffer
	term := &terminal{out: &out, err: &complaints}
	d := declared["bill"]
	if err := term.tellIMA(t.Context(), root, declared, d); err != nil {
		t.Fatal(err)
	}
	_, fragment, _ := strings.Cut(out.String(), "/etc/ima/ima-policy:\n\n")
	fragment, _, _ = strings.Cut(fragment, "\n\n")
	if !strings.Contains(fragment, "\n# bill\nmeasure func=FILE_CHECK mask=^MAY_READ uid=990 fowner=") || strings.Contains(fragment, "other") {
		t.Errorf("the policy is\n%s", fragment)
	}
	if !strings.Contains(complaints.String(), `other is left out: user "stranger" does not exist`) {
		t.Errorf("complaints are %q", complaints.String())
	}
	if !strings.Contains(complaints.String(), "come is left out: systemd gives its user a uid at each start") {
		t.Errorf("complaints are %q", complaints.String())
	}
	files, err := appFiles(t.Context(), root, d)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files { // whatever this folder is in
		files[i].use.FileSystem = 0xef53
	}
	for _, c := range []struct {
		name, line, policy string
		says               []string
	}{
		{"nothing", "quiet", "", []string{"0 of 3 files", "no ima_policy=tcb", "/opt/bin/bill"}},
		{"tcb", "ima_policy=tcb", "", []string{"2 of 3 files", "ima_policy=tcb on the kernel's command line", "/opt/lib/main.py."}},
		{"shown", "ima_policy=tcb", "measure func=BPRM_CHECK\n", []string{"1 of 3 files", "/sys/kernel/security/ima/policy", "libbill.so", "main.py"}},
		{"ours", "ima_policy=tcb", fragment + "\n", []string{"3 of 3 files"}},
		{"labels", "", "measure obj_type=x\n", []string{"0 of 3 files", "Not known"}},
	} {
		kernelOf(t, root, c.line, c.policy)
		p, from, err := runningPolicy(root)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		out.Reset()
		term.tellCovered(p, from, d.Name, []uint32{990}, files)
		said := strings.Join(strings.Fields(out.String()), " ")
		for _, want := range c.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q is not in %q", c.name, want, said)
			}
		}
		if strings.Contains(said, "var/data") {
			t.Errorf("%s: what is left out is named: %q", c.name, said)
		}
	}
	kernelOf(t, root, "ima_policy=tcb", "no policy")
	if _, _, err := runningPolicy(root); err == nil {
		t.Error("a policy that cannot be read is read")
	}
	if _, _, err := runningPolicy(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no IMA") {
		t.Errorf("a kernel without IMA: %v", err)
	}
	if p := new(imapolicy.Policy); p.Measures(files[0].use) != imapolicy.No {
		t.Error("an empty policy measures")
	}
}

// TestIMAIsNotQuoted: an agent that leaves PCR 10 out of its quotes is named.
func TestIMAIsNotQuoted(t *testing.T) {
	for text, said := range map[string]bool{"": false, "[tpm]\npcrs = \"sha256:0-9,13\"\n": true, "[tpm]\npcrs = \"sha256:0-9,13+sha384:10,13\"\n": false} {
		root := t.TempDir()
		path := filepath.Join(root, "etc/agentd/config.toml")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		(&terminal{out: &out}).tellQuoted(root)
		if strings.Contains(out.String(), "does not quote PCR 10") != said {
			t.Errorf("%q: %q", text, out.String())
		}
	}
}

// TestIMALooksInTheImage: files of an image that are links lead to files of the image, and devices and
// pipes are not opened.
func TestIMALooksInTheImage(t *testing.T) {
	root, machine := t.TempDir(), t.TempDir()
	outside := filepath.Join(machine, "program")
	for _, err := range []error{
		os.WriteFile(outside, []byte("#!/bin/sh\n"), 0o755),
		os.Symlink(outside, filepath.Join(root, "file")),
		os.Symlink(machine, filepath.Join(root, "folder")),
		os.Symlink("/dev/null", filepath.Join(root, "device")),
		unix.Mkfifo(filepath.Join(root, "pipe"), 0o600),
		os.Symlink("/real", filepath.Join(root, "link")),
		os.WriteFile(filepath.Join(root, "real"), []byte("x"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d := &declaration.Declaration{Files: []string{"/file", "/device", "/pipe", "/link"}, Directories: []string{"/folder"}}
	if got, err := appFiles(t.Context(), root, d); err != nil || len(got) != 1 || got[0].path != filepath.Join(root, "link") {
		t.Errorf("looked at %+v", got)
	}
	if _, ok := lookAtFile("/dev/null"); ok {
		t.Error("a device was looked at")
	}
}

// TestIMAManyFiles: an application of more files than the agent measures gets no rule, and that is said.
func TestIMAManyFiles(t *testing.T) {
	root := t.TempDir()
	for i := range manifest.MaxFiles {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := &declaration.Declaration{Name: "many", User: "0", Directories: []string{"/"}}
	if files, err := appFiles(t.Context(), root, d); err != nil || len(files) != manifest.MaxFiles {
		t.Errorf("%d files, %v", len(files), err)
	}
	if err := os.WriteFile(filepath.Join(root, "more"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var out, complaints bytes.Buffer
	if err := (&terminal{out: &out, err: &complaints}).tellIMA(t.Context(), root, map[string]*declaration.Declaration{"many": d}, d); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(complaints.String(), "many is left out: it has more than 20000 files") || strings.Contains(out.String(), "many") {
		t.Errorf("says %q and\n%s", complaints.String(), out.String())
	}
}

// TestConfigurationOfAnImage: a link in an image leads to the file of the image, and never to one of this
// machine, whether it is the configuration, its folder, or a declaration.
func TestConfigurationOfAnImage(t *testing.T) {
	outside := t.TempDir()
	for name, text := range map[string]string{
		"config.toml": "[measurement]\napplication_folders = [\"/foreign\"]\n",
		"a.toml":      "unit = \"a.service\"\nuser = \"root\"\nfiles = [\"/bin/a\"]\n",
	} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, links := range map[string]map[string]string{
		"the file":   {"etc/agentd/config.toml": filepath.Join(outside, "config.toml")},
		"its folder": {"etc/agentd": outside},
		"upwards":    {"etc/agentd/config.toml": strings.Repeat("../", 20) + filepath.Join(outside, "config.toml")},
	} {
		for _, inside := range []bool{false, true} {
			root := t.TempDir()
			for link, to := range links {
				at := filepath.Join(root, link)
				if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(to, at)); err != nil {
					t.Fatal(err)
				}
			}
			want := config.Default().Measurement.ApplicationFolders
			if inside { // the image has a file of that name
				want = []string{"/own"}
				at := filepath.Join(root, outside, "config.toml")
				if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte("[measurement]\napplication_folders = [\"/own\"]\n"), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if c, err := configBelow(root); err != nil || !slices.Equal(c.Measurement.ApplicationFolders, want) {
				t.Errorf("%s, inside %t: %q, %v", name, inside, c.Measurement.ApplicationFolders, err)
			}
		}
	}
	root := t.TempDir()
	at := filepath.Join(root, "etc/agentd/apps.d/a.toml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(filepath.Join(outside, "a.toml"), at)); err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	d := &declaration.Declaration{Name: "a", File: "/etc/agentd/apps.d/a.toml"}
	if _, known, err := (&terminal{out: new(bytes.Buffer), err: &complaints}).sizeBelow(t.Context(), root, d); known || err != nil || !strings.Contains(complaints.String(), "no such file") {
		t.Errorf("known %t, %v, %s", known, err, complaints.String())
	}
}
