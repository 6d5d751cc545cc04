// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// lddPath is a library in the output of ldd, or the loader.
var lddPath = regexp.MustCompile(`(?m)(?:=> |^\t)(/\S+) \(0x[0-9a-f]+\)$`)

// TestAgreesWithLdd: the libraries of programs of this machine are those that its loader finds, and
// no others. The real loader runs here, in the test alone.
func TestAgreesWithLdd(t *testing.T) {
	ldd, err := exec.LookPath("ldd")
	if err != nil {
		t.Skip("ldd is not installed")
	}
	var programs []string
	for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
		all, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(all); i += max(1, len(all)/25) {
			programs = append(programs, all[i])
		}
	}
	programs = append(programs, "/bin/sh", "/usr/bin/ssh", "/usr/sbin/sshd", "/usr/bin/git", "/usr/bin/openssl", "/usr/bin/curl", "/usr/lib/systemd/systemd", "/usr/bin/node", "/usr/bin/python3.11", "/usr/bin/qemu-system-x86_64", "/usr/bin/gdb")
	tree, err := newTree("/")
	if err != nil {
		t.Fatal(err)
	}
	l, compared := newLoader(tree), 0
	for _, program := range programs {
		at, err := tree.regular(program)
		if err != nil {
			continue
		}
		o, err := l.objectAt(at)
		if err != nil || !o.dynamic || o.interp == "" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), ldd, at.real)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
		out, err := cmd.Output()
		if err != nil {
			continue
		}
		var want, got []string
		for _, m := range lddPath.FindAllStringSubmatch(string(out), -1) {
			want = append(want, real(t, m[1]))
		}
		p := l.load(at, o, nil)
		for _, x := range p.all {
			if !strings.Contains(x.path, "glibc-hwcaps") {
				got = append(got, x.real)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("%s:\nfound    %q\nldd says %q", program, got, want)
		}
		if missing := strings.Count(string(out), "not found"); missing != len(p.missing) {
			t.Errorf("%s: %q are missing, %d by ldd", program, p.missing, missing)
		}
		compared++
	}
	if t.Logf("%d programs compared, %d objects read", compared, l.read); compared < 12 {
		t.Errorf("only %d programs were compared", compared)
	}
}

func real(t *testing.T, p string) string {
	t.Helper()
	p, err := filepath.EvalSymlinks(p)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An elfFile is what a made-up ELF file says.
type elfFile struct {
	interp  string
	needed  []string
	soname  string
	rpath   string
	runpath string
	filter  string
	audit   string
	flags   uint64
	dlopen  string
	machine elf.Machine
}

// encode writes a file of 64 bits: headers, and one segment at address 0x1000 that has everything.
func (f *elfFile) encode() []byte {
	order := binary.LittleEndian
	text := []byte{0}
	add := func(s string) uint64 {
		at := len(text)
		text = append(append(text, s...), 0)
		return uint64(at)
	}
	var dynamic []elf.Dyn64
	entry := func(tag elf.DynTag, value uint64) { dynamic = append(dynamic, elf.Dyn64{Tag: int64(tag), Val: value}) }
	for _, n := range f.needed {
		entry(elf.DT_NEEDED, add(n))
	}
	for tag, s := range map[elf.DynTag]string{elf.DT_SONAME: f.soname, elf.DT_RPATH: f.rpath, elf.DT_RUNPATH: f.runpath, elf.DT_FILTER: f.filter, elf.DT_AUDIT: f.audit} {
		if s != "" {
			entry(tag, add(s))
		}
	}
	entry(elf.DT_FLAGS_1, f.flags)
	const head = 64 + 4*56
	base, notes := uint64(head), note("FDO", dlopenNote, f.dlopen)
	interp := append([]byte(f.interp), 0)
	at := base + uint64(len(interp)+len(notes))
	entry(elf.DT_STRTAB, 0x1000+at)
	entry(elf.DT_STRSZ, uint64(len(text)))
	entry(elf.DT_NULL, 0)
	size := at + uint64(len(text)) + uint64(len(dynamic))*16
	programs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Off: 0, Vaddr: 0x1000, Filesz: size, Memsz: size},
		{Type: uint32(elf.PT_DYNAMIC), Off: at + uint64(len(text)), Filesz: uint64(len(dynamic)) * 16},
		{Type: uint32(elf.PT_NOTE), Off: base + uint64(len(interp)), Filesz: uint64(len(notes))},
	}
	if f.interp != "" {
		programs = append(programs, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: base, Filesz: uint64(len(interp))})
	}
	machine := f.machine
	if machine == 0 {
		machine = elf.EM_X86_64
	}
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(programs))}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var b bytes.Buffer
	for _, part := range []any{&h, programs} {
		if err := binary.Write(&b, order, part); err != nil {
			panic(err)
		}
	}
	b.Write(make([]byte, head-b.Len()))
	for _, part := range []any{interp, notes, text, dynamic} {
		if err := binary.Write(&b, order, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// note returns an ELF note.
func note(name string, kind uint32, desc string) []byte {
	if desc == "" {
		return nil
	}
	pad := func(s string) string { return s + strings.Repeat("\x00", (4-len(s)%4)%4) }
	name += "\x00"
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	return append(b, pad(name)+pad(desc)...)
}

// machine writes files below a new folder: text, or ELF files, by their paths. A path that ends in
// "@" is a link. Programs are those in bin folders, and scripts.
func machine(t *testing.T, files map[string]any) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name, link := strings.CutSuffix(name, "@")
		full := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch c := content.(type) {
		case *elfFile:
			err = errors.Join(err, os.WriteFile(full, c.encode(), 0o755))
		case string:
			if link {
				err = errors.Join(err, os.Symlink(c, full))
			} else {
				err = errors.Join(err, os.WriteFile(full, []byte(c), 0o755))
			}
		case []byte:
			err = errors.Join(err, os.WriteFile(full, c, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// proposed proposes the declaration of a.service of a made-up machine.
func proposed(t *testing.T, root string) *Proposal {
	t.Helper()
	s, err := unitfile.Load(root, "a.service")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Propose(t.Context(), root, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// paths returns the paths of the files of a group; of all groups if it is empty.
func (p *Proposal) paths(group string) (out []string) {
	for _, f := range p.Files {
		if group == "" || f.Group == group {
			out = append(out, f.Path)
		}
	}
	slices.Sort(out)
	return out
}

func (p *Proposal) folders() (out []string) {
	for _, d := range p.Directories {
		out = append(out, d.Path)
	}
	return out
}

const (
	glibc = "/lib64/ld-linux-x86-64.so.2"
	musl  = "/lib/ld-musl-x86_64.so.1"
	unit  = "etc/systemd/system/a.service"
)

// TestSearch: libraries are found in the order of the loader: DT_RPATH of the object and of those
// that need it, LD_LIBRARY_PATH, DT_RUNPATH, the cache or the folders of ld.so.conf, the default
// folders. Each row has the library at several places, and the one that counts.
func TestSearch(t *testing.T) {
	lib := &elfFile{soname: "liba.so.1"}
	program := func(f elfFile) *elfFile {
		f.interp, f.needed = glibc, append([]string{"liba.so.1"}, f.needed...)
		return &f
	}
	all := []string{"opt/rpath", "opt/env", "opt/runpath", "opt/conf", "opt/origin/lib", "usr/lib/x86_64-linux-gnu"}
	for name, c := range map[string]struct {
		program *elfFile
		unit    string
		without []string // of all
		more    map[string]any
		want    []string
		missing bool
	}{
		"DT_RPATH first":             {program: program(elfFile{rpath: "/opt/rpath"}), unit: "Environment=LD_LIBRARY_PATH=/opt/env", want: []string{"/opt/rpath/liba.so.1"}},
		"variable before DT_RUNPATH": {program: program(elfFile{runpath: "/opt/runpath", rpath: "/opt/rpath"}), unit: "Environment=LD_LIBRARY_PATH=/opt/env", want: []string{"/opt/env/liba.so.1"}},
		"DT_RUNPATH":                 {program: program(elfFile{runpath: "/opt/none:/opt/runpath", rpath: "/opt/rpath"}), want: []string{"/opt/runpath/liba.so.1"}},
		"ld.so.conf":                 {program: program(elfFile{}), want: []string{"/opt/conf/liba.so.1"}},
		"default folders":            {program: program(elfFile{}), without: []string{"opt/conf"}, want: []string{"/usr/lib/x86_64-linux-gnu/liba.so.1"}},
		"without default folders":    {program: program(elfFile{flags: uint64(elf.DF_1_NODEFLIB)}), missing: true},
		"$ORIGIN":                    {program: program(elfFile{runpath: "$ORIGIN/../origin/lib"}), want: []string{"/opt/origin/lib/liba.so.1"}},
		"${ORIGIN}":                  {program: program(elfFile{rpath: "${ORIGIN}/../origin/lib"}), want: []string{"/opt/origin/lib/liba.so.1"}},
		"$LIB":                       {program: program(elfFile{runpath: "/usr/$LIB"}), want: []string{"/usr/lib/x86_64-linux-gnu/liba.so.1"}},
		"for a processor too": {program: program(elfFile{runpath: "/opt/runpath"}), more: map[string]any{"opt/runpath/glibc-hwcaps/x86-64-v3/liba.so.1": lib, "opt/runpath/haswell/x86_64/liba.so.1": lib},
			want: []string{"/opt/runpath/glibc-hwcaps/x86-64-v3/liba.so.1", "/opt/runpath/haswell/x86_64/liba.so.1", "/opt/runpath/liba.so.1"}},
		"another machine is passed over": {program: program(elfFile{rpath: "/opt/arm:/opt/rpath"}), more: map[string]any{"opt/arm/liba.so.1": &elfFile{machine: elf.EM_AARCH64}}, want: []string{"/opt/rpath/liba.so.1"}},
		"text is passed over":            {program: program(elfFile{rpath: "/opt/text:/opt/rpath"}), more: map[string]any{"opt/text/liba.so.1": "text"}, want: []string{"/opt/rpath/liba.so.1"}},
		"DT_RPATH of what needs it": {program: program(elfFile{rpath: "/opt/rpath", needed: []string{"libb.so"}}), more: map[string]any{"opt/rpath/libb.so": &elfFile{needed: []string{"libc0.so"}}, "opt/rpath/libc0.so": lib, "usr/lib/libc0.so": lib},
			want: []string{"/opt/rpath/liba.so.1", "/opt/rpath/libb.so", "/opt/rpath/libc0.so"}},
		"DT_RUNPATH is not inherited": {program: program(elfFile{runpath: "/opt/runpath", needed: []string{"libb.so"}}), more: map[string]any{"opt/runpath/libb.so": &elfFile{needed: []string{"libc0.so"}}, "opt/runpath/libc0.so": lib, "usr/lib/libc0.so": lib},
			want: []string{"/opt/runpath/liba.so.1", "/opt/runpath/libb.so", "/usr/lib/libc0.so"}},
		"preloaded by the unit": {program: program(elfFile{rpath: "/opt/rpath"}), unit: "Environment=LD_PRELOAD=/opt/pre.so", more: map[string]any{"opt/pre.so": &elfFile{needed: []string{"libb.so"}}, "usr/lib/libb.so": lib},
			want: []string{"/opt/pre.so", "/opt/rpath/liba.so.1", "/usr/lib/libb.so"}},
		"preloaded by the machine": {program: program(elfFile{rpath: "/opt/rpath"}), more: map[string]any{"etc/ld.so.preload": "# comment\n/opt/pre.so\n", "opt/pre.so": &elfFile{}}, want: []string{"/opt/pre.so", "/opt/rpath/liba.so.1"}},
		"by a file of variables":   {program: program(elfFile{rpath: "/opt/rpath"}), unit: "EnvironmentFile=-/etc/a.env", more: map[string]any{"etc/a.env": "LD_PRELOAD=\"/opt/pre.so\" \n", "opt/pre.so": &elfFile{}}, want: []string{"/opt/pre.so", "/opt/rpath/liba.so.1"}},
		"filter and auditor": {program: program(elfFile{rpath: "/opt/rpath", filter: "libf.so", audit: "libu.so"}), more: map[string]any{"opt/rpath/libf.so": &elfFile{}, "opt/rpath/libu.so": &elfFile{}},
			want: []string{"/opt/rpath/liba.so.1", "/opt/rpath/libf.so", "/opt/rpath/libu.so"}},
		"by a path": {program: program(elfFile{rpath: "/opt/rpath", needed: []string{"/opt/x/libx.so"}}), more: map[string]any{"opt/x/libx.so": &elfFile{}}, want: []string{"/opt/rpath/liba.so.1", "/opt/x/libx.so"}},
		"missing":   {program: program(elfFile{rpath: "/opt/rpath", needed: []string{"libgone.so.7"}}), want: []string{"/opt/rpath/liba.so.1"}, missing: true},
		"circle":    {program: program(elfFile{rpath: "/opt/rpath", needed: []string{"libb.so"}}), more: map[string]any{"opt/rpath/libb.so": &elfFile{needed: []string{"libb2.so"}}, "opt/rpath/libb2.so": &elfFile{needed: []string{"libb.so", "liba.so.1"}}}, want: []string{"/opt/rpath/liba.so.1", "/opt/rpath/libb.so", "/opt/rpath/libb2.so"}},
	} {
		files := map[string]any{"opt/bin/a": c.program, "lib64/ld-linux-x86-64.so.2": &elfFile{}, unit: "[Service]\n" + c.unit + "\nExecStart=/opt/bin/a\n", "etc/ld.so.conf": "include conf.d/*.conf\n", "etc/conf.d/x.conf": "# x\n/opt/conf\n"}
		for _, dir := range all {
			if !slices.Contains(c.without, dir) {
				files[dir+"/liba.so.1"] = lib
			}
		}
		for path, content := range c.more {
			files[path] = content
		}
		p := proposed(t, machine(t, files))
		got := slices.DeleteFunc(p.paths(groupLibrary), func(f string) bool { return f == glibc })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
		if said := strings.Contains(strings.Join(p.Uncovered, "\n"), "is not found"); said != c.missing {
			t.Errorf("%s: said %q, missing %v", name, p.Uncovered, c.missing)
		}
	}
}

// TestMusl: the loader of musl has its C library in itself, and an order of its own.
func TestMusl(t *testing.T) {
	p := proposed(t, machine(t, map[string]any{
		unit:        "[Service]\nExecStart=/opt/bin/a\n",
		"opt/bin/a": &elfFile{interp: musl, needed: []string{"libc.musl-x86_64.so.1", "libz.so.1", "libq.so"}, runpath: "/opt/r"},
		musl:        &elfFile{}, "etc/ld-musl-x86_64.path": "/opt/m\n/lib", "opt/m/libz.so.1": &elfFile{needed: []string{"libr.so"}}, "usr/lib/libz.so.1": &elfFile{},
		"opt/r/libq.so": &elfFile{needed: []string{"libr.so", "libpthread.so.0"}}, "opt/r/libr.so": &elfFile{}, "lib/libr.so": &elfFile{},
	}))
	if got, want := p.paths(groupLibrary), []string{musl, "/opt/m/libz.so.1", "/opt/r/libq.so", "/opt/r/libr.so"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if strings.Contains(strings.Join(p.Uncovered, "\n"), "not found") {
		t.Errorf("said %q", p.Uncovered)
	}
}

// TestLater: what an executable says that it loads later is named.
func TestLater(t *testing.T) {
	p := proposed(t, machine(t, map[string]any{
		unit:        "[Service]\nExecStart=/opt/bin/a\n",
		"opt/bin/a": &elfFile{dlopen: `[{"soname":["libfido2.so.1","libfido2.so"],"feature":"fido2","description":"x","priority":"suggested"}]`},
	}))
	if said := strings.Join(p.Uncovered, "\n"); !strings.Contains(said, "/opt/bin/a may load later (dlopen): libfido2.so.1 libfido2.so") {
		t.Errorf("said %q", said)
	}
}

// TestHostileELF: headers that claim more than there is are errors, and take neither memory nor time.
func TestHostileELF(t *testing.T) {
	good := (&elfFile{interp: glibc, needed: []string{"liba.so"}, soname: "x"}).encode()
	if o, err := readObject(bytes.NewReader(good), int64(len(good))); err != nil || o.interp != glibc || !slices.Equal(o.needed, []string{"liba.so"}) || o.soname != "x" {
		t.Fatalf("%+v, %v", o, err)
	}
	at := func(off int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[off:], v)
		return b
	}
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	for name, b := range map[string][]byte{
		"cut in the header": good[:40], "cut in the programs": good[:100], "no byte order": at(5, 9), "no class": at(4, 9),
		"program headers elsewhere": at(32, huge...), "many program headers": at(56, 0xff, 0xff), "their size": at(54, 1, 0),
		"dynamic section elsewhere": at(64+56+8, huge...), "large dynamic section": at(64+56+32, huge...), "its texts elsewhere": at(64+16, huge...),
		"large loader": at(64+3*56+32, huge...),
	} {
		if o, err := readObject(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// FuzzReadObject: no panic, and what is read has the limits.
func FuzzReadObject(f *testing.F) {
	f.Add((&elfFile{interp: glibc, needed: []string{"liba.so", "libb.so"}, soname: "x", rpath: "$ORIGIN", runpath: "/a:/b", dlopen: `[{"soname":["x"]}]`}).encode())
	f.Add([]byte(elf.ELFMAG + "\x01\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := readObject(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if len(o.needed)+len(o.audit)+len(o.filters) > maxNames || len(o.interp) > maxName {
			t.Fatalf("%d names", len(o.needed))
		}
		for _, n := range o.needed {
			if len(n) > maxName || strings.ContainsRune(n, 0) {
				t.Fatalf("name %q", n)
			}
		}
	})
}

// FuzzReadCache: no panic; paths are absolute.
func FuzzReadCache(f *testing.F) {
	f.Add(cacheOf(map[string]string{"liba.so": "/opt/liba.so"}))
	f.Add([]byte(oldCache + "\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _ := readCache(b)
		for _, libraries := range all {
			for _, c := range libraries {
				if !filepath.IsAbs(c.path) {
					t.Fatalf("%q", c.path)
				}
			}
		}
	})
}

// cacheOf returns a cache with libraries of this machine's kind.
func cacheOf(libraries map[string]string) []byte {
	head := make([]byte, cacheHead)
	copy(head, newCache)
	binary.LittleEndian.PutUint32(head[20:], uint32(len(libraries)))
	var entries, texts []byte
	text := func(s string) uint32 {
		at := cacheHead + cacheEntry*len(libraries) + len(texts)
		texts = append(append(texts, s...), 0)
		return uint32(at)
	}
	for name, path := range libraries {
		e := make([]byte, cacheEntry)
		binary.LittleEndian.PutUint32(e, 0x0303)
		binary.LittleEndian.PutUint32(e[4:], text(name))
		binary.LittleEndian.PutUint32(e[8:], text(path))
		entries = append(entries, e...)
	}
	return append(append(head, entries...), texts...)
}

// TestCache: a library that only the cache has is found, and ld.so.conf is not read then.
func TestCache(t *testing.T) {
	files := map[string]any{
		unit: "[Service]\nExecStart=/opt/bin/a\n", "opt/bin/a": &elfFile{interp: glibc, needed: []string{"liba.so"}}, glibc: &elfFile{},
		"opt/there/liba.so": &elfFile{}, "opt/conf/liba.so": &elfFile{}, "etc/ld.so.conf": "/opt/conf\n",
		"etc/ld.so.cache": cacheOf(map[string]string{"liba.so": "/opt/there/liba.so", "libz.so": "/x"}),
	}
	if got, want := proposed(t, machine(t, files)).paths(groupLibrary), []string{glibc, "/opt/there/liba.so"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	files["etc/ld.so.cache"] = "damaged"
	if got, want := proposed(t, machine(t, files)).paths(groupLibrary), []string{glibc, "/opt/conf/liba.so"}; !slices.Equal(got, want) {
		t.Errorf("without it, found %q, want %q", got, want)
	}
}
