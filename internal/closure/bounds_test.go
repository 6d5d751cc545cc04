// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// segments returns an ELF file with a segment of each kind, all of which have the same content.
func segments(t *testing.T, content []byte, kinds ...elf.ProgType) []byte {
	t.Helper()
	at := uint64(64 + 56*len(kinds))
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(kinds))}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	programs := make([]elf.Prog64, len(kinds))
	for i, k := range kinds {
		programs[i] = elf.Prog64{Type: uint32(k), Off: at, Vaddr: 0x1000, Filesz: uint64(len(content)), Memsz: uint64(len(content))}
	}
	var b bytes.Buffer
	for _, part := range []any{&h, programs, content} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestSmallFileOfManyNames: a small file whose headers name the same bytes again and again takes no more
// memory than one that has them once.
func TestSmallFileOfManyNames(t *testing.T) {
	notes := note("FDO", dlopenNote, `[{"soname":[`+strings.TrimSuffix(strings.Repeat(`"a",`, 15_000), ",")+`]}]`)
	for _, n := range []int{1, 1000} {
		b := segments(t, notes, slices.Repeat([]elf.ProgType{elf.PT_NOTE}, n)...)
		o, err := readObject(bytes.NewReader(b), int64(len(b)))
		if err != nil || len(o.later) != 1 || len(o.later[0].Names) != 15_000 {
			t.Errorf("%d segments: %d lists of names, %v", n, len(o.later), err)
		}
	}
	order := binary.LittleEndian
	var dynamic []byte
	entry := func(tag elf.DynTag, value uint64) {
		dynamic = order.AppendUint64(order.AppendUint64(dynamic, uint64(tag)), value)
	}
	const names, text = 1000, 4000
	for i := range names {
		entry(elf.DT_NEEDED, uint64(i%100)) // each begins one byte later, and ends at the same place
	}
	entry(elf.DT_STRTAB, 0x1000+16*(names+3))
	entry(elf.DT_STRSZ, text)
	entry(elf.DT_NULL, 0)
	content := append(dynamic, strings.Repeat("x", text-1)+"\x00"...)
	b := segments(t, content, elf.PT_LOAD, elf.PT_DYNAMIC)
	if o, err := readObject(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "names of more than") {
		t.Errorf("%d bytes of names from a file of %d, %v", o.size(), len(b), err)
	}
}

// TestManyObjects: the names of all objects together have a limit.
func TestManyObjects(t *testing.T) {
	root := machine(t, map[string]any{"a.so": &elfFile{needed: []string{"liba.so"}}, "b.so": &elfFile{needed: []string{"libb.so"}}})
	tree, err := newTree(root)
	if err != nil {
		t.Fatal(err)
	}
	l := newLoader(tree)
	for _, name := range []string{"/a.so", "/b.so"} {
		at, err := tree.regular(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.objectAt(at)
		if full := err != nil && strings.Contains(err.Error(), "of names"); full != (name == "/b.so") {
			t.Errorf("%s: %v", name, err)
		}
		l.size = maxObjectful
	}
}

// TestSearchEnds: a program that has each of many libraries looked for in many folders is refused, and
// not looked at for days. So is one whose last look-up is the one too many.
func TestSearchEnds(t *testing.T) {
	var needed, folders []string
	for i := range 50 {
		needed, folders = append(needed, fmt.Sprintf("lib%d.so", i)), append(folders, fmt.Sprintf("/opt/%d", i))
	}
	root := machine(t, map[string]any{unit: "[Service]\nExecStart=/opt/bin/a\n", "opt/bin/a": &elfFile{interp: glibc, needed: needed, runpath: strings.Join(folders, ":")}})
	s, err := unitfile.Load(root, "a.service")
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	for _, most := range []int{maxSteps, 500, 3, -1} {
		c, err := newCollector(t.Context(), root, s, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.most = most; most < 0 {
			c.most = all - 1
		}
		p, err := c.propose()
		switch {
		case most == maxSteps:
			if all = c.steps; err != nil || all < 1000 {
				t.Errorf("%d look-ups, %v", all, err)
			}
		case !errors.Is(err, errSteps) || p != nil:
			t.Errorf("at most %d: %v", c.most, err)
		case c.steps > c.most+5000:
			t.Errorf("at most %d: %d look-ups", c.most, c.steps)
		}
	}
}

// TestManyFolders: a class path of more folders than are proposed says so.
func TestManyFolders(t *testing.T) {
	files := map[string]any{"usr/lib/jvm/bin/java": &elfFile{}, "usr/lib/jvm/lib/server/libjvm.so": &elfFile{}}
	var list []string
	for i := range maxFolders + 5 {
		files[fmt.Sprintf("srv/%d/A.class", i)] = "x"
		list = append(list, fmt.Sprintf("/srv/%d", i))
	}
	files["srv/args"] = "-cp " + strings.Join(list, ":")
	files[unit] = "[Service]\nExecStart=/usr/lib/jvm/bin/java @/srv/args Main\n"
	p := proposed(t, machine(t, files))
	if said := strings.Join(p.Uncovered, "\n"); len(p.Directories) > maxFolders || !strings.Contains(said, "folders are not listed") {
		t.Errorf("%d folders, said\n%s", len(p.Directories), said)
	}
}

// TestManifestsAsJavaReads: Java takes a manifest in any case, ends lines at each CR, and knows no "*" in
// the class path of a manifest.
func TestManifestsAsJavaReads(t *testing.T) {
	jar := func(names ...string) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for i, name := range names {
			f, err := w.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(f, "Main-Class: A\rClass-Path: lib%d.jar lib/*\r\r", i); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for _, c := range []struct {
		names, want []string
	}{
		{[]string{"META-INF/MANIFEST.MF"}, []string{"lib0.jar", "lib/*"}},
		{[]string{"meta-inf/Manifest.mf"}, []string{"lib0.jar", "lib/*"}},
		{[]string{"META-INF/MANIFEST.MF", "META-INF/manifest.mf"}, []string{"lib0.jar", "lib/*", "lib1.jar", "lib/*"}},
	} {
		b := jar(c.names...)
		if got, err := classPath(bytes.NewReader(b), int64(len(b))); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v", c.names, got, err)
		}
	}
	many := jar(slices.Repeat([]string{"META-INF/MANIFEST.MF"}, maxManifests+1)...)
	if _, err := classPath(bytes.NewReader(many), int64(len(many))); err == nil {
		t.Error("many manifests are read")
	}
	p := proposed(t, machine(t, map[string]any{
		unit: "[Service]\nExecStart=/usr/lib/jvm/bin/java -jar /srv/a.jar\n", "usr/lib/jvm/bin/java": &elfFile{}, "usr/lib/jvm/lib/server/libjvm.so": &elfFile{},
		"srv/a.jar": jar("META-INF/manifest.mf"), "srv/lib0.jar": jar("x"), "srv/lib/b.jar": jar("x"),
	}))
	if got := p.paths(groupArgument); !slices.Equal(got, []string{"/srv/a.jar", "/srv/lib0.jar"}) {
		t.Errorf("listed %q", got)
	}
}

// TestPathFilesAsPythonReads: a line of a .pth file ends wherever Python ends one, and packages beside the
// standard library have such files too.
func TestPathFilesAsPythonReads(t *testing.T) {
	for _, end := range []string{"\n", "\r", "\r\n", "\v", "\f", "\x1c", "\u0085", "\u2028"} {
		if paths, code := pathLines("a" + end + "/opt/b " + end + "import x"); !slices.Equal(paths, []string{"a", "/opt/b"}) || !code {
			t.Errorf("%q: %q, code %v", end, paths, code)
		}
	}
	p := proposed(t, machine(t, map[string]any{
		unit: "[Service]\nExecStart=/opt/py/bin/python3.11 -I /srv/a.py\n", "opt/py/bin/python3.11": &elfFile{}, "opt/py/lib/python3.11/os.py": "x",
		"srv/a.py": "x", "opt/py/lib/python3.11/site-packages/x.pth": "/opt/more\n", "opt/more/m.py": "x",
	}))
	if got := p.folders(); !slices.Contains(got, "/opt/more") {
		t.Errorf("listed %q", got)
	}
}

// TestStartedByOthers: a user who has the name of a program does not hide the program that runs as the
// user; a search path that env is given counts; what may run in another root directory is said.
func TestStartedByOthers(t *testing.T) {
	for line, want := range map[string][]string{
		"/usr/bin/gosu git /opt/bin/a":              {"/usr/lib/liba.so"},
		"/usr/bin/sudo -u git -- /opt/bin/a --x":    {"/usr/lib/liba.so"},
		"/usr/bin/su git -c /opt/bin/a":             {"/usr/lib/liba.so"},
		"/usr/bin/env PATH=/opt/bin:/usr/bin git":   {"/opt/bin/git"},
		"/usr/bin/chroot /srv/other /usr/bin/git":   {"/usr/bin/git", "another root directory"},
		"/usr/bin/env PERL5OPT=-Mx /usr/bin/git":    {"/usr/bin/git", "sets the variable PERL5OPT"},
		"/usr/bin/env NODE_OPTIONS=x /usr/bin/git":  {"/usr/bin/git", "sets the variable NODE_OPTIONS"},
		"/usr/bin/nice git /opt/bin/a":              {"/usr/bin/git"},
		"/usr/bin/runuser -u git -- /opt/bin/a --x": {"/usr/lib/liba.so"},
	} {
		p := proposed(t, machine(t, map[string]any{
			unit: "[Service]\nExecStart=" + line + "\n", "usr/bin/git": &elfFile{}, "opt/bin/a": &elfFile{interp: glibc, needed: []string{"liba.so"}}, "usr/lib/liba.so": &elfFile{}, "opt/bin/git": &elfFile{}, "srv/other/usr/bin/git": &elfFile{},
			"usr/bin/gosu": &elfFile{}, "usr/bin/sudo": &elfFile{}, "usr/bin/su": &elfFile{}, "usr/bin/env": &elfFile{}, "usr/bin/chroot": &elfFile{}, "usr/bin/nice": &elfFile{}, "usr/bin/runuser": &elfFile{},
		}))
		said := strings.Join(p.Uncovered, "\n")
		if got := p.paths(""); !slices.Contains(got, want[0]) || len(want) > 1 && !strings.Contains(said, want[1]) {
			t.Errorf("%s: listed %q, said\n%s", line, got, said)
		}
	}
}

// limited proposes for a unit whose files can go beyond limits: a program of Java, and one of Python.
func limited(t *testing.T, more map[string]any) *Proposal {
	t.Helper()
	files := map[string]any{
		unit: "[Service]\nEnvironmentFile=/etc/a.env\nExecStart=/usr/lib/jvm/bin/java -jar /srv/a.jar\nExecStart=/opt/py/bin/python3.11 -I -B /srv/a.py\n", "etc/a.env": "",
		"usr/lib/jvm/bin/java": &elfFile{interp: glibc}, "usr/lib/jvm/lib/server/libjvm.so": &elfFile{}, "srv/a.jar": jarOf(t, ""),
		"opt/py/bin/python3.11": &elfFile{interp: glibc}, "opt/py/lib/python3.11/os.py": "x", "srv/a.py": "x", glibc: &elfFile{},
	}
	maps.Copy(files, more)
	return proposed(t, machine(t, files))
}

// TestLimitsAreSaid: what is beyond a limit of one file or folder is said, and nothing is said at the limit.
func TestLimitsAreSaid(t *testing.T) {
	lines := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, c := range []struct {
		says  string
		limit int
		files func(n int) map[string]any
	}{
		{"sets more than 1024", maxVariables, func(n int) map[string]any { return map[string]any{"etc/a.env": lines(n, "A%d=x\n")} }},
		{"more than 256 paths", maxPaths, func(n int) map[string]any {
			return map[string]any{"srv/a.jar": jarOf(t, "Manifest-Version: 1.0\nClass-Path:"+lines(n, " b%d.jar\n ")+"\n\n")}
		}},
		{"names more than 256 paths", maxPaths, func(n int) map[string]any {
			return map[string]any{"opt/py/lib/python3.11/site-packages/a.pth": lines(n, "/opt/%d\n")}
		}},
	} {
		for _, over := range []int{0, 1} {
			p := limited(t, c.files(c.limit+over))
			if said := strings.Join(p.Uncovered, "\n"); strings.Contains(said, c.says) != (over > 0) {
				t.Errorf("%q, %d over: said\n%s", c.says, over, said)
			}
		}
	}
}

// TestLoaderFilesAreRead: files of the loader that are there and cannot be read are named.
func TestLoaderFilesAreRead(t *testing.T) {
	for name, content := range map[string]any{"/etc/ld.so.cache": "no cache", "/etc/ld.so.preload": strings.Repeat("#", maxText+1)} {
		for _, more := range []map[string]any{nil, {name[1:]: content}} {
			p := limited(t, more)
			if said := strings.Join(p.Uncovered, "\n"); strings.Contains(said, name+" could not be read") != (more != nil) {
				t.Errorf("%s, %d files: said\n%s", name, len(more), said)
			}
		}
	}
}

// TestMissingLibraries: not each of very many libraries that are not found is kept.
func TestMissingLibraries(t *testing.T) {
	tree, err := newTree(machine(t, map[string]any{"opt/a": &elfFile{}}))
	if err != nil {
		t.Fatal(err)
	}
	l := newLoader(tree)
	at, err := tree.regular("/opt/a")
	if err != nil {
		t.Fatal(err)
	}
	o := &object{class: elf.ELFCLASS64, machine: elf.EM_X86_64, kind: elf.ET_DYN, dynamic: true, interp: glibc}
	for i := range maxNames {
		o.needed = append(o.needed, fmt.Sprintf("lib%d.so", i))
	}
	if p := l.load(at, o, nil); len(p.missing) == 0 || len(p.missing) > maxWords+2 {
		t.Errorf("%d of %d libraries that are not found are kept", len(p.missing), len(o.needed))
	}
}

// TestManyFiles: no more files are listed than the agent accepts of an application.
func TestManyFiles(t *testing.T) {
	tree, err := newTree(machine(t, map[string]any{"opt/a": "x", "opt/b": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{tree: tree, ctx: t.Context(), out: &Proposal{Files: make([]File, manifest.MaxFiles-1)}, files: map[string]bool{}}
	if c.file("/opt/a", groupUnit, "test") == nil || len(c.out.Uncovered) > 0 {
		t.Errorf("the last file is not listed: %q", c.out.Uncovered)
	}
	if c.file("/opt/b", groupUnit, "test") != nil || len(c.out.Files) != manifest.MaxFiles || len(c.out.Uncovered) != 1 {
		t.Errorf("%d files, said %q", len(c.out.Files), c.out.Uncovered)
	}
}

// TestManyPrograms: a command that is beyond the number of those that are followed is named, and so is an
// executable beyond the number of those that are read.
func TestManyPrograms(t *testing.T) {
	tree, err := newTree(machine(t, map[string]any{"opt/a": &elfFile{}, "opt/b": &elfFile{}}))
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{tree: tree, ctx: t.Context(), tell: func(string) {}, out: &Proposal{}, files: map[string]bool{}, run: map[string]bool{}}
	for i := range maxPrograms * 2 {
		c.run[fmt.Sprint(i)] = true
	}
	if err := c.execute(&execution{setting: "ExecStart", program: "/opt/a"}); err != nil || len(c.out.Files) > 0 || !strings.Contains(strings.Join(c.out.Uncovered, "\n"), "programs are started") {
		t.Errorf("%d files, said %q, %v", len(c.out.Files), c.out.Uncovered, err)
	}
	l := newLoader(tree)
	l.read = maxObjects - 1
	for _, name := range []string{"/opt/a", "/opt/b"} {
		at, err := tree.regular(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.objectAt(at); (err != nil) != (name == "/opt/b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyModules: one library more than are read is kept of a folder, so that this is said.
func TestManyModules(t *testing.T) {
	tree, err := newTree(machine(t, map[string]any{"opt/a.so": "", "opt/b.so": "", "opt/c.so": ""}))
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{tree: tree, ctx: t.Context(), tell: func(string) {}, loader: newLoader(tree), out: &Proposal{}, current: &process{}}
	s := &survey{collector: c, folder: &Folder{}, modules: make([]string, maxModules-1)}
	s.walk("/opt", "/opt", 1)
	if len(s.modules) != maxModules+1 || s.folder.Files != 3 {
		t.Errorf("%d libraries are kept, of %d files", len(s.modules), s.folder.Files)
	}
	for n := range 2 {
		c.extensions(s.modules[:maxModules+n])
		if said := strings.Join(c.out.Uncovered, "\n"); strings.Contains(said, "shared libraries are in the folders") != (n > 0) {
			t.Errorf("%d libraries: said %q", maxModules+n, said)
		}
	}
}
