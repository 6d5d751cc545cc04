// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build copies the tree to dir and runs `make build` there.
func build(t *testing.T, dir string) {
	t.Helper()
	files(t, func(path string, content []byte) {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/testdata/") {
			return
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	cmd := exec.Command("make", "build", "OUT=bin")
	cmd.Dir = dir
	for _, v := range os.Environ() {
		// The flags of a make that runs this test must not reach this one.
		if name, _, _ := strings.Cut(v, "="); name != "MAKEFLAGS" && name != "MAKELEVEL" && name != "MFLAGS" && name != "MAKEOVERRIDES" && name != "OUT" {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build in %s: %v\n%s", dir, err, out)
	}
}

// TestBuildsAreIdentical checks that two builds make the same bytes (case 81), and what the
// binaries need.
func TestBuildsAreIdentical(t *testing.T) {
	if testing.Short() {
		t.Skip("builds every command twice: not with -short")
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is not installed")
	}
	first, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "another", "folder")
	build(t, first)
	build(t, second)
	for _, name := range []string{"agentd", "agentctl", "agentd-sim", "agentd-conformance"} {
		t.Run(name, func(t *testing.T) {
			a, err := os.ReadFile(filepath.Join(first, "bin", name))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(second, "bin", name))
			if err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(a) != sha256.Sum256(b) {
				t.Error("two builds in two folders differ")
			}
			if bytes.Contains(a, []byte(first)) {
				t.Error("the binary contains the path of its build folder")
			}
			checkELF(t, name, a)
		})
	}
}

// checkELF checks that agentctl and agentd-conformance name no interpreter, and that the others are
// position-independent. systemd runs agentctl as root in the environment of the unit that it measures,
// and the unit's user may be able to write that. The kernel loads the interpreter that a program names,
// and it obeys LD_PRELOAD: the user's code would run as root. The price is that agentctl does not get a
// random address. agentd-conformance runs on any Linux, also on one without that interpreter.
func checkELF(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if name == "agentctl" || name == "agentd-conformance" {
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("has a segment %v: a loader would run, and obey LD_PRELOAD", p.Type)
			}
		}
	} else if f.Type != elf.ET_DYN {
		t.Errorf("ELF type %v, want %v: the executable must be position-independent", f.Type, elf.ET_DYN)
	}
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("needs libraries %v (%v), want none", libs, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" || strings.HasPrefix(s.Key, "vcs") {
			t.Errorf("built with %s=%s", s.Key, s.Value)
		}
	}
}
