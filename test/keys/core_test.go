// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCore has the kernel write a core of the running agent, and looks for keys in it:
// once as the agent is, but that the kernel lets it neither set its limit nor become
// undumpable, and once after the filter of its memory was also put back to what it is
// for other programs, to see that the search finds what is there.
func TestCore(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	must(t, err)
	// It is the whole machine's, and not this test's to change.
	if p := strings.TrimSpace(string(pattern)); p == "" || strings.ContainsAny(p, "|/%") {
		t.Skipf("the kernel does not write cores into the folder of the process: kernel.core_pattern is %q", p)
	}
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	if limit.Max != unix.RLIM_INFINITY {
		t.Skipf("cores may have %d bytes here, which is not enough for every machine", limit.Max)
	}
	for _, c := range []struct {
		name, filter string
		memory       bool // the core holds the process's memory
	}{
		{"as the agent is", "", false},
		{"with the filter of other programs", "0x33", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			a, known, _ := stockedAgent(t, commandsIn(t, folder))
			proc := fmt.Sprintf("/proc/%d/", a.PID())
			filter, err := os.ReadFile(proc + "coredump_filter")
			must(t, err)
			if n, err := strconv.ParseUint(strings.TrimSpace(string(filter)), 16, 64); err != nil || n != 0 {
				t.Errorf("a core would hold memory of kinds %s: %v", filter, err)
			}
			if c.filter != "" {
				must(t, os.WriteFile(proc+"coredump_filter", []byte(c.filter), 0))
			}
			kept := regions(t, a.PID())
			must(t, syscall.Kill(a.PID(), syscall.SIGABRT))
			path := awaitCore(t, a, folder)

			needles := inAllForms(known)
			sizes, found := lookIntoCore(t, path, needles)
			t.Logf("segments of %d bytes, %v", sum(sizes), found)
			if (found["marker"] > 0) != c.memory {
				t.Errorf("the marker, which is not a secret, is in the core %d times", found["marker"])
			}
			if !c.memory {
				delete(found, "marker")
				if len(found) > 0 {
					t.Errorf("the core holds %v", found)
				}
				if n := sum(sizes); n > 1<<20 {
					t.Errorf("the core holds %d bytes of memory", n)
				}
			}
			hidden := 0
			for _, r := range kept {
				if r.dontDump && !strings.HasPrefix(r.name, "[v") { // the kernel's own pages
					hidden++
					if n := within(sizes, r); n > 0 {
						t.Errorf("the core holds %d bytes of the memory for secrets at %x", n, r.start)
					}
				}
			}
			if hidden == 0 {
				t.Error("there is no memory for secrets")
			}
			look := []byte(a.Output()) // with the stacks of all goroutines
			for name, needle := range needles {
				if bytes.Contains(look, needle) {
					t.Errorf("what the agent says when it is aborted holds %s", name)
				}
			}
		})
	}
}

// commandsIn is a folder of commands whose agent runs in a folder, where the kernel
// puts its core, does not get to hide, and dies of an abort as other programs do.
func commandsIn(t *testing.T, folder string) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\ncd '%s' && GOTRACEBACK=crash %s='%s' exec '%s' \"$@\"\n",
		folder, withoutHiding, filepath.Join(shared.commands, "agentd-sim"), self)
	must(t, os.WriteFile(filepath.Join(dir, "agentd-sim"), []byte(script), 0o700))
	return dir
}

// awaitCore waits until the agent is gone, and so its core written.
func awaitCore(t *testing.T, a *agent, folder string) string {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if a.Ended() {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the agent survived SIGABRT")
		}
	}
	names, err := filepath.Glob(filepath.Join(folder, "core*"))
	must(t, err)
	if len(names) != 1 {
		t.Fatalf("%d cores were written\n%s", len(names), a.Output())
	}
	return names[0]
}

// lookIntoCore counts needles in the memory that a core holds. The registers of threads,
// in its notes, are looked at besides.
func lookIntoCore(t *testing.T, path string, needles map[string][]byte) (segments []elf.ProgHeader, found map[string]int) {
	t.Helper()
	f, err := elf.Open(path)
	must(t, err)
	defer f.Close()
	if f.Type != elf.ET_CORE {
		t.Fatalf("%s is not a core but %v", path, f.Type)
	}
	found = map[string]int{}
	notes := 0
	for _, p := range f.Progs {
		if p.Type == elf.PT_NOTE {
			notes++
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for name, needle := range needles {
			n := bytes.Count(b, needle)
			if n > 0 && p.Type == elf.PT_NOTE {
				t.Logf("%s is in registers, %d times", name, n)
			} else if n > 0 {
				found[name] += n
			}
		}
		if p.Type == elf.PT_LOAD {
			segments = append(segments, p.ProgHeader)
		}
	}
	if notes == 0 || len(segments) == 0 {
		t.Fatalf("a core of %d notes and %d segments", notes, len(segments))
	}
	return segments, found
}

func sum(segments []elf.ProgHeader) (n uint64) {
	for _, s := range segments {
		n += s.Filesz
	}
	return n
}

// within returns how many bytes of r are in a core.
func within(segments []elf.ProgHeader, r region) (n uint64) {
	for _, s := range segments {
		low, high := max(s.Vaddr, r.start), min(s.Vaddr+s.Filesz, r.end)
		if low < high {
			n += high - low
		}
	}
	return n
}

// TestToolLeavesNoCore: what reads or writes secrets for people leaves no core either.
func TestToolLeavesNoCore(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the commands: not with -short")
	}
	for _, args := range [][]string{{"seal", "--name", "x", "-"}, {"key", "recover", "--trust-unknown-writer-of-this-disk", "--identity", "-"}, {"unseal", "--name", "x", "--associated-data", "-"}} {
		cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), args...)
		secret, err := cmd.StdinPipe() // which it waits for
		must(t, err)
		must(t, cmd.Start())
		proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			filter, err := os.ReadFile(proc + "coredump_filter")
			must(t, err)
			limits, err := os.ReadFile(proc + "limits")
			must(t, err)
			if strings.Trim(string(filter), "0\n") == "" && noCore.Match(limits) {
				break
			}
			if time.Now().After(end) {
				t.Errorf("agentctl %v: filter %s\n%s", args, filter, limits)
				break
			}
		}
		must(t, secret.Close())
		_ = cmd.Wait() // there is no agent
	}
}
