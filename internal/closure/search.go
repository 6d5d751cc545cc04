// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"
)

// A candidate is a path at which the loader looks for a library. Also is whether it looks there on
// some processors only.
type candidate struct {
	path string
	also bool
}

// candidates returns where the loader looks for the library name that an object needs, in its
// order: ld.so(8), and _dl_map_object in elf/dl-load.c of glibc; load_library in ldso/dynlink.c of
// musl.
func (p *process) candidates(name string, by *loaded) (out []candidate) {
	if strings.ContainsRune(name, '/') {
		for _, file := range p.tokens(name, by) {
			if !path.IsAbs(file) {
				p.relative(by, file)
				continue
			}
			out = append(out, candidate{path: path.Clean(file)})
		}
		return out
	}
	var dirs []string
	library := ""
	if !p.secure {
		library = p.env["LD_LIBRARY_PATH"]
	}
	if p.musl != "" {
		dirs = append(p.dirs(library, by), p.inherited(by, true)...)
		return append(p.in(dirs, name, false), p.in(p.usually, name, false)...)
	}
	if by.object.runpath == nil {
		dirs = p.inherited(by, false)
	}
	dirs = append(dirs, p.dirs(library, by)...)
	if by.object.runpath != nil {
		dirs = append(dirs, p.dirs(*by.object.runpath, by)...)
	}
	out = p.in(dirs, name, true)
	if by.object.bare {
		return out
	}
	out = append(out, p.inCache(name)...)
	return append(out, p.in(p.folders(), name, true)...)
}

// inherited returns the folders of DT_RPATH of an object, of that which needs it, and so on up to
// the program. glibc passes over those of objects that have DT_RUNPATH, and musl knows no
// difference.
func (p *process) inherited(by *loaded, both bool) (dirs []string) {
	for x, n := by, 0; x != nil && n < maxObjects && len(dirs) <= maxPaths; x, n = x.by, n+1 { // one more is said
		switch o := x.object; {
		case o.runpath != nil && both:
			dirs = append(dirs, p.dirs(*o.runpath, x)...)
		case o.rpath != nil && (o.runpath == nil || both):
			dirs = append(dirs, p.dirs(*o.rpath, x)...)
		}
	}
	return p.searchable(dirs, by)
}

// searchable returns the first folders of a search path, and says if there are more.
func (p *process) searchable(dirs []string, of *loaded) []string {
	if len(dirs) > maxPaths {
		p.lacks(fmt.Sprintf("%s has libraries looked for in more than %d folders: the others are not followed", of.path, maxPaths))
	}
	return dirs[:min(len(dirs), maxPaths)]
}

// lacks says what of the libraries is not covered.
func (p *process) lacks(words string) {
	if len(p.missing) <= maxWords && !slices.Contains(p.missing, words) {
		p.missing = append(p.missing, words)
	}
}

// dirs returns the folders of a search path. An empty one is the working directory.
func (p *process) dirs(list string, of *loaded) (out []string) {
	if list == "" {
		return nil
	}
	for part := range strings.SplitSeq(strings.ReplaceAll(list, ";", ":"), ":") {
		for _, dir := range p.tokens(part, of) {
			if !path.IsAbs(dir) {
				p.relative(of, dir)
				continue
			}
			if dir = path.Clean(dir); len(out) <= maxPaths && !slices.Contains(out, dir) { // one more is said
				out = append(out, dir)
				p.plantable(dir, of)
			}
		}
	}
	return p.searchable(out, of)
}

func (p *process) relative(of *loaded, dir string) {
	p.say(fmt.Sprintf("%s has libraries looked for relative to its working directory (%q), which is not followed", of.path, dir))
}

// plantable says of a folder in which libraries are looked for that another user can put some there.
func (p *process) plantable(dir string, of *loaded) {
	if why := p.tree.writers(p.tree.nearest(dir)); why != "" {
		p.say(fmt.Sprintf("%s has libraries looked for in %s, and another user than root can put some there: %s", of.path, dir, why))
	}
}

func (p *process) say(s string) {
	if !slices.Contains(p.said, s) && len(p.said) < maxWords {
		p.said = append(p.said, s)
	}
}

// nearest returns a path without links, or the folder above it that is there.
func (t *tree) nearest(p string) string {
	for ; p != "/"; p = path.Dir(p) {
		if at, err := t.find(p); err == nil {
			return at.real
		}
	}
	return p
}

// tokens replaces $ORIGIN, $LIB and $PLATFORM: ld.so(8), "Dynamic string tokens". The last two are
// fixed when a loader is built, so all that are used are tried.
func (p *process) tokens(s string, of *loaded) []string {
	out := []string{s}
	for _, token := range []struct {
		name   string
		values []string
	}{
		{"ORIGIN", []string{path.Dir(of.path)}},
		{"LIB", p.libs()},
		{"PLATFORM", platforms(p.program.object.machine)},
	} {
		var next []string
		for _, s := range out {
			if plain, braced := "$"+token.name, "${"+token.name+"}"; !strings.Contains(s, plain) && !strings.Contains(s, braced) {
				next = append(next, s)
				continue
			}
			for _, v := range token.values {
				next = append(next, strings.NewReplacer("$"+token.name, v, "${"+token.name+"}", v).Replace(s))
			}
		}
		out = next
	}
	return out
}

func platforms(m elf.Machine) []string {
	switch m {
	case elf.EM_X86_64:
		return []string{"haswell", "xeon_phi", "x86_64"}
	case elf.EM_386:
		return []string{"i686", "i586", "i386"}
	}
	return []string{"aarch64"}
}

// multiarch returns the name of the folder of Debian for libraries of a machine.
func multiarch(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86_64-linux-gnu"
	case elf.EM_386:
		return "i386-linux-gnu"
	}
	return "aarch64-linux-gnu"
}

func (p *process) libs() []string {
	out := []string{"lib/" + multiarch(p.program.object.machine)}
	if p.program.object.class == elf.ELFCLASS64 {
		out = append(out, "lib64")
	}
	return append(out, "lib")
}

// folders returns the default folders of a loader of glibc.
func (p *process) folders() (out []string) {
	for _, top := range []string{"/", "/usr/"} {
		for _, lib := range p.libs() {
			out = append(out, top+lib)
		}
	}
	if !p.cached {
		out = append(slices.Clone(p.conf), out...)
	}
	return out
}

// muslFolders reads which folders musl searches.
func (p *process) muslFolders() []string {
	file := "/etc/ld-musl-" + path.Base(p.musl) + ".path"
	b, err := p.tree.read(file, maxText)
	if err != nil {
		p.unread(file, err)
		return []string{"/lib", "/usr/local/lib", "/usr/lib"}
	}
	var out []string
	for _, dir := range splitList(string(b), ":\n") {
		if path.IsAbs(dir) && len(out) <= maxPaths { // one more is said
			out = append(out, path.Clean(dir))
		}
	}
	return p.searchable(out, p.program)
}

// in returns the paths of a library in folders, and in those below them for processors that can do
// more (glibc-hwcaps, and the names that glibc up to 2.36 used).
func (p *process) in(dirs []string, name string, glibc bool) (out []candidate) {
	for _, dir := range dirs {
		if glibc {
			for _, below := range p.tree.capabilities(dir) {
				out = append(out, candidate{path: path.Join(dir, below, name), also: true})
			}
		}
		out = append(out, candidate{path: path.Join(dir, name)})
	}
	return out
}

// capabilities returns the folders below dir that a loader may prefer.
func (t *tree) capabilities(dir string) []string {
	out, known := t.better[dir]
	if known {
		return out
	}
	names, more := t.list(path.Join(dir, "glibc-hwcaps"), 64)
	if more {
		t.omitted("%s/glibc-hwcaps has more than 64 names: libraries in the others are not followed", dir)
	}
	for _, name := range slices.Backward(names) {
		out = append(out, path.Join("glibc-hwcaps", name))
	}
	for _, tls := range []string{"tls", ""} {
		for _, platform := range []string{"haswell", "xeon_phi", ""} {
			for _, wide := range []string{"avx512_1", ""} {
				for _, plain := range []string{"x86_64", ""} {
					below := path.Join(tls, platform, wide, plain)
					if below == "" || tls != "" && !t.isFolder(path.Join(dir, tls)) || platform != "" && !t.isFolder(path.Join(dir, tls, platform)) {
						continue
					}
					if t.isFolder(path.Join(dir, below)) {
						out = append(out, below)
					}
				}
			}
		}
	}
	if t.better == nil {
		t.better = make(map[string][]string)
	}
	t.better[dir] = out
	return out
}

func (t *tree) isFolder(p string) bool {
	_, ok := t.folder(p)
	return ok
}

// inCache returns the paths that the cache has for a library.
func (p *process) inCache(name string) (out []candidate) {
	flags, known := cacheFlags[p.program.object.machine]
	for _, c := range p.cache[name] {
		if !known || c.flags == flags || c.flags&0xff00 == 0 && flags&0xff00 == 0 {
			out = append(out, candidate{path: c.path, also: c.hwcap})
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		switch {
		case a.also == b.also:
			return 0
		case a.also:
			return -1
		}
		return 1
	})
	return out
}
