// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stage returns the part of a script that runs tests, from one line to another or to its end.
func stage(t *testing.T, script, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "scripts", script))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), from)
	if to != "" {
		text, _, _ = strings.Cut(text, to)
	}
	if !ok || !strings.Contains(text, "-again") {
		t.Fatalf("%s has no stage from %q to %q", script, from, to)
	}
	return from + text
}

// TestScripts: what runs the tests ends as they do, also if nothing can be written down, and runs
// again what failed only if it is told where to list that.
func TestScripts(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "report"), ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := func(folder, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	stages := map[string]string{
		"check.sh": "set -eu; step() { :; }\n" + stage(t, "check.sh", `step "rules of the tree`, ""),
		"test.sh": "set -u; failed=; fail() { failed=\"$failed, $1\"; }\n" + stage(t, "test.sh", "export GORACE", `step "formatting`) +
			"tests some \"$PACKAGES\" -timeout 1m\n[ -z \"$failed\" ]\n",
	}
	good, bad := lines("pass TestA", "pass "), lines("TestA says late", "fail TestA", "fail ")
	for name, c := range map[string]struct {
		first, second string
		code, again   int    // of the runs
		list          bool   // whether there is a list of what failed once
		tee           string // in the place of tee
		passes        bool
	}{
		"passes":                       {good, "", 0, 0, true, "", true},
		"fails once":                   {bad, good, 1, 0, true, "", true},
		"fails once, without a list":   {bad, good, 1, 0, false, "", false},
		"fails twice":                  {bad, bad, 1, 1, true, "", false},
		"the command fails":            {good, good, 1, 0, true, "", false},
		"a failure, and no exit code":  {bad, good, 0, 0, false, "", false},
		"output that is not written":   {good, "", 0, 0, true, "cat; exit 1", false},
		"a failure that is not there":  {bad, good, 1, 0, true, "head -n 1 | /usr/bin/tee \"$1\" >/dev/null; exit 1", false},
		"killed before the first line": {"", "", 137, 0, true, "", false},
	} {
		for script, text := range stages {
			t.Run(name+", "+script, func(t *testing.T) {
				d := t.TempDir()
				for file, content := range map[string]string{"first": c.first, "second": c.second, "list": ""} {
					if err := os.WriteFile(filepath.Join(d, file), []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				program(d, "go", fmt.Sprintf("cd %s\ncase \"$*\" in build*) cp %s/report \"$3\" ;; list*) echo x ;; *-run*) cat second; exit %d ;; *) cat first; exit %d ;; esac\n", d, dir, c.again, c.code))
				if c.tee != "" {
					program(d, "tee", c.tee+"\n")
				}
				cmd := exec.Command("sh", "-c", text)
				cmd.Env = append(os.Environ(), "PATH="+d+":"+os.Getenv("PATH"), "work="+d, "GO="+d+"/go", "PACKAGES=x", "AGENTD_FAILED_ONCE=")
				if script == "test.sh" {
					program(d, "report", fmt.Sprintf("exec %s/report \"$@\"\n", dir))
				}
				if c.list {
					cmd.Env = append(cmd.Env, "AGENTD_FAILED_ONCE="+d+"/list")
				}
				out, err := cmd.CombinedOutput()
				if (err == nil) != c.passes {
					t.Errorf("%v\n%s", err, out)
				}
				list, _ := os.ReadFile(filepath.Join(d, "list"))
				if listed := strings.Contains(string(list), onceMark+"x TestA"); listed != (name == "fails once") {
					t.Errorf("the list says %q", list)
				}
			})
		}
	}
	cmd := exec.Command("sh", "-c", stages["test.sh"])
	cmd.Env = append(os.Environ(), "work="+t.TempDir(), "GO=true", "PACKAGES=")
	if cmd.Run() == nil {
		t.Error("no packages, and no failure")
	}
}
