// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// many returns n texts that are made from their number.
func many(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// files returns n files, whose paths and contents are made from their number.
func files(n int, name, content string) map[string]any {
	out := map[string]any{}
	for i := range n {
		text := content
		if strings.Contains(content, "%") {
			text = fmt.Sprintf(content, i)
		}
		out[fmt.Sprintf(name, i)] = text
	}
	return out
}

// TestOmittedIsSaid: what is beyond a limit of a search, a command line, a package or a folder is said,
// and nothing is said at the limit.
func TestOmittedIsSaid(t *testing.T) {
	program := &elfFile{interp: glibc, needed: []string{"liba.so"}}
	musl := &elfFile{interp: "/lib/ld-musl-x86_64.so.1", needed: []string{"liba.so"}}
	runs := func(line string, more map[string]any) map[string]any {
		all := map[string]any{unit: "[Service]\nExecStart=" + line + "\n", "opt/a": program, glibc: &elfFile{}, "usr/lib/liba.so": &elfFile{}}
		maps.Copy(all, more)
		return all
	}
	java := map[string]any{"usr/bin/java@": "/usr/lib/jvm/bin/java", "usr/lib/jvm/bin/java": &elfFile{}, "usr/lib/jvm/lib/server/libjvm.so": &elfFile{}, "opt/x.jar": jarOf(t, "")}
	for _, c := range []struct {
		says  string
		limit int
		files func(n int) map[string]any
	}{
		{"/opt/a has libraries looked for in more than 256 folders", maxPaths, func(n int) map[string]any {
			return runs("/opt/a\nEnvironment=LD_LIBRARY_PATH="+many(n, "/l/%d:"), nil)
		}},
		{"/opt/a has libraries looked for in more than 256 folders", maxPaths, func(n int) map[string]any {
			return runs("/opt/a", map[string]any{"opt/a": musl, "lib/ld-musl-x86_64.so.1": &elfFile{}, "etc/ld-musl-x86_64.path": many(n, "/l/%d:")})
		}},
		{"/etc/ld.so.conf names more than 256 folders", maxPaths, func(n int) map[string]any {
			return runs("/opt/a", map[string]any{"etc/ld.so.conf": many(n, "/l/%d\n")})
		}},
		{"/etc/ld.so.conf includes more than 256 files", maxIncluded - 1, func(n int) map[string]any { // itself is one
			return runs("/opt/a", mergeMaps(map[string]any{"etc/ld.so.conf": "include /etc/c/*.conf"}, files(n, "etc/c/%04d.conf", "/l")))
		}},
		{"or by more than 8 others", maxNested - 1, func(n int) map[string]any { // itself is one
			chain := map[string]any{"etc/ld.so.conf": "include /etc/0.conf"}
			for i := range n {
				chain[fmt.Sprintf("etc/%d.conf", i)] = fmt.Sprintf("include /etc/%d.conf\n", i+1)
			}
			return runs("/opt/a", chain)
		}},
		{"/usr/lib/glibc-hwcaps has more than 64 names", 64, func(n int) map[string]any {
			return runs("/opt/a", files(n, "usr/lib/glibc-hwcaps/%d/x", ""))
		}},
		{"more than 1024 libraries are preloaded into /opt/a", maxNames, func(n int) map[string]any {
			return runs("/opt/a", map[string]any{"etc/ld.so.preload": many(n, "lib%d.so ")})
		}},
		{"ExecStart= has more than 4096 words", maxListed, func(n int) map[string]any {
			return runs("/opt/a $MANY\nEnvironmentFile=/etc/a.env", map[string]any{"etc/a.env": "MANY=" + many(n, "%d ")})
		}},
		{"ExecStart= has more than 4096 words", maxListed, func(n int) map[string]any {
			return runs(`/usr/bin/env -S "/opt/a `+many(n-1, "%d ")+`"`, map[string]any{"usr/bin/env": &elfFile{}})
		}},
		{"a command line of ExecStart= has more than 4096 words", maxListed, func(n int) map[string]any {
			return runs(`/bin/sh -c "`+many(n, "%d ")+`"`, map[string]any{"bin/sh": &elfFile{}})
		}},
		{"/opt/a has more than 256 arguments on a command line of ExecStart=", maxPaths, func(n int) map[string]any {
			return runs(`/bin/sh -c "/opt/a `+many(n, "%d ")+`"`, map[string]any{"bin/sh": &elfFile{}})
		}},
		{"/etc/java.args has more than 4096 words", maxListed, func(n int) map[string]any {
			return runs("/usr/bin/java @/etc/java.args -jar /opt/x.jar", mergeMaps(java, map[string]any{"etc/java.args": many(n, "-D%d ")}))
		}},
		{"the arguments of Java in /etc/java.args could not be read", maxText, func(n int) map[string]any {
			return runs("/usr/bin/java @/etc/java.args -jar /opt/x.jar", mergeMaps(java, map[string]any{"etc/java.args": strings.Repeat(" ", n)}))
		}},
		{"more than 512 files of the package a", maxPaths * 2, func(n int) map[string]any {
			return runs("/opt/a", mergeMaps(map[string]any{"var/lib/dpkg/info/a.list": "/opt/a\n" + many(n, "/etc/%d\n")}, files(n, "etc/%d", "")))
		}},
		{"links in /opt/app lead out of it to what is not covered: /opt/app/", maxLinked, func(n int) map[string]any {
			return runs("/usr/bin/python3 /opt/app/x.py", mergeMaps(map[string]any{"usr/bin/python3": &elfFile{}, "opt/app/x.py": ""}, files(n, "opt/app/%d@", "/srv/shared/%d"), files(n, "srv/shared/%d", "")))
		}},
	} {
		for _, over := range []int{0, 1} {
			p := proposed(t, machine(t, c.files(c.limit+over)))
			if said := strings.Join(p.Uncovered, "\n"); strings.Contains(said, c.says) != (over > 0) {
				t.Errorf("%q, %d over: said\n%s", c.says, over, said)
			}
		}
	}
}

func mergeMaps(all ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// TestManyMatches: names beyond those of one folder that a pattern is compared with are said.
func TestManyMatches(t *testing.T) {
	root := machine(t, files(maxListed, "etc/%d.env", ""))
	tree, err := newTree(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, over := range []int{0, 1} {
		if over > 0 {
			if err := os.WriteFile(filepath.Join(root, "etc/more"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		found := tree.matches("/etc/*.env")
		if said := strings.Join(tree.said, "\n"); len(found) < maxListed-1 || len(found) > maxListed || strings.Contains(said, "more than 4096 names are searched for /etc/*.env") != (over > 0) {
			t.Errorf("%d over: %d found, said %q", over, len(found), said)
		}
	}
}

// TestListsOfPackages: lists of the files of packages that are not read are said, and the program is not
// called one of no package then.
func TestListsOfPackages(t *testing.T) {
	for name, c := range map[string]struct {
		size, number int64
		said         string
	}{
		"all are read":         {16 * maxText, maxPackage / (16 * maxText), ""},
		"more than are read":   {16 * maxText, maxPackage/(16*maxText) + 2, "2 lists of the files of packages were not searched"},
		"one cannot be read":   {16*maxText + 1, 1, "1 lists of the files of packages were not searched"},
		"none, and no trouble": {1, 1, ""},
	} {
		root := machine(t, map[string]any{unit: "[Service]\nExecStart=/opt/a\n", "opt/a": &elfFile{}, dpkgFolder[1:] + "/x.md5sums": ""})
		for i := range c.number {
			list := filepath.Join(root, dpkgFolder, fmt.Sprintf("p%d.list", i))
			if err := errors.Join(os.WriteFile(list, nil, 0o644), os.Truncate(list, c.size)); err != nil {
				t.Fatal(err)
			}
		}
		said := strings.Join(proposed(t, root).Uncovered, "\n")
		if strings.Contains(said, "were not searched") != (c.said != "") || !strings.Contains(said, c.said) {
			t.Errorf("%s: said\n%s", name, said)
		}
		if strings.Contains(said, "belongs to no package of Debian") != (c.said == "") {
			t.Errorf("%s: said\n%s", name, said)
		}
	}
}

// TestManyProcesses: of a unit with more processes, and of a process with more mappings than are looked
// at, that is said; nothing is said at the limits.
func TestManyProcesses(t *testing.T) {
	line := "00400000-00452000 r-xp 00000000 08:02 173521" + strings.Repeat(" ", 47) + "/opt/a\n" // 100 bytes
	for _, over := range []int{0, 1} {
		proc := unitOf(t, map[int]string{1 << 23: "a.service"}, nil) // no process has such a number
		first := filepath.Join(proc, strconv.Itoa(1<<23))
		for i := range maxProcesses + over - 1 { // they have ended meanwhile
			dir := filepath.Join(proc, strconv.Itoa(1<<23+1+i))
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::/system.slice/a.service\n"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		content := strings.Repeat(line, maxMaps/len(line)) + strings.Repeat("\n", maxMaps%len(line)+over)
		for _, err := range []error{
			os.Remove(filepath.Join(first, "exe")), os.Symlink("/opt/a", filepath.Join(first, "exe")),
			os.Remove(filepath.Join(first, "maps")), os.WriteFile(filepath.Join(first, "maps"), []byte(content), 0o644),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		live, err := look(t.Context(), proc, func(u string) bool { return u == "a.service" })
		if err != nil || live.Processes != maxProcesses+over || !slices.Equal(live.Code, []string{"/opt/a"}) {
			t.Fatalf("%+v, %v", live, err)
		}
		said := strings.Join(live.Notes, "\n")
		for _, words := range []string{"of which 512 were looked at", "process 8388608 has more than 16 MiB of mappings"} {
			if strings.Contains(said, words) != (over > 0) {
				t.Errorf("%d over: said %q", over, said)
			}
		}
	}
}

// TestTables: names in /proc, and files of a unit, beyond those that are looked at are said; a mapping
// that cannot be read is said, and the others are compared.
func TestTables(t *testing.T) {
	proc := unitOf(t, map[int]string{1 << 23: "a.service", 1<<23 + 1: "a.service"}, nil)
	for _, most := range []int{1, 2} {
		w := &watcher{proc: proc, code: map[string]bool{}, live: &Live{}, most: most}
		if _, err := w.processes(t.Context(), func(string) bool { return true }); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"/opt/a", "/opt/b", "/opt/a"} {
			w.add(w.code, file)
		}
		said := strings.Join(w.live.Notes, "\n")
		for _, words := range []string{"has more than 1 names", "more than 1 files mapped or open"} {
			if strings.Contains(said, words) != (most == 1) {
				t.Errorf("%d: said %q", most, said)
			}
		}
	}
	w := &watcher{proc: proc, code: map[string]bool{}, live: &Live{}, most: 9}
	mapped := w.file(1<<23, "maps")
	if err := errors.Join(os.Remove(mapped), os.WriteFile(mapped, []byte("0-1 r-xp 0 08:02 1 /opt/a\n0-1 r-xp 0 08:02 1 /"+strings.Repeat("x", 64<<10)+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	w.maps(1 << 23)
	if said := strings.Join(w.live.Notes, "\n"); !w.code["/opt/a"] || !strings.Contains(said, "not all mappings of process 8388608 could be read") {
		t.Errorf("%v, said %q", w.code, said)
	}
}

// TestRunningEnds: what a running unit uses is not compared any more if the person has stopped the
// command.
func TestRunningEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &Proposal{}
	if err := p.Running(ctx, &Live{Processes: 1, Code: []string{"/bin/sh"}}); !errors.Is(err, context.Canceled) || len(p.Files) > 0 {
		t.Errorf("%v, listed %q", err, p.paths(""))
	}
}
