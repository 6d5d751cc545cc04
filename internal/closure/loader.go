// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// A loader finds the libraries of programs as the dynamic loader would: that of glibc (ld.so(8)) or
// of musl. It runs nothing, and maps nothing.
type loader struct {
	tree    *tree
	objects map[string]*object // by real path; nil if it is not ELF, or could not be read
	read    int
	size    int // bytes of the names in objects
	cache   map[string][]cachedLibrary
	cached  bool     // whether there is a cache
	conf    []string // folders that ldconfig would search, if it has no cache
	preload []string // of /etc/ld.so.preload
	said    []string // about the configuration of the loader
	files   []string // that configure the loader
}

func newLoader(t *tree) *loader {
	l := &loader{tree: t, objects: map[string]*object{}}
	b, err := t.read("/etc/ld.so.cache", maxCache)
	if err == nil {
		l.cache, err = readCache(b)
	}
	if l.cached = err == nil; !l.cached {
		l.unread("/etc/ld.so.cache", err)
		l.conf = t.conf("/etc/ld.so.conf", 1, new(int))
	}
	if b, err := t.read("/etc/ld.so.preload", maxText); err == nil {
		l.files = append(l.files, "/etc/ld.so.preload")
		for line := range strings.Lines(string(b)) {
			line, _, _ = strings.Cut(line, "#")
			l.preload = append(l.preload, splitList(line, " \t\r\n:")...)
		}
	} else {
		l.unread("/etc/ld.so.preload", err)
	}
	return l
}

// unread says that a file that is there could not be read.
func (l *loader) unread(file string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		say(&l.said, fmt.Sprintf("%s could not be read, and what it says of libraries is not followed: %v", file, durable.Cause(err)))
	}
}

// A loaded is an object of one program.
type loaded struct {
	path   string // as the loader opens it
	real   string
	object *object
	by     *loaded // that needs it; nil for the program
	why    string
}

// A process is the objects of one program, in the order in which the loader finds them.
type process struct {
	*loader
	env     environment
	program *loaded
	musl    string   // name of the architecture in the files of musl; "" for glibc
	usually []string // folders that musl searches for each library
	byName  map[string]*loaded
	all     []*loaded
	missing []string // in words
	said    []string // in words
	secure  bool     // set-uid or set-gid: the loader ignores the environment
}

// objectAt reads the object at a place, once.
func (l *loader) objectAt(at *place) (*object, error) {
	if o, known := l.objects[at.real]; known {
		if o == nil {
			return nil, errNotELF
		}
		return o, nil
	}
	if l.read++; l.read > maxObjects {
		return nil, fmt.Errorf("more than %d executables and libraries", maxObjects)
	}
	f, err := l.tree.open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o, err := readObject(f, at.info.Size())
	if err == nil {
		if l.size += o.size(); l.size > maxObjectful {
			err = fmt.Errorf("more than %d MiB of names in executables and libraries", maxObjectful>>20)
		}
	}
	if err != nil {
		o = nil
	}
	l.objects[at.real] = o
	return o, err
}

// load finds what a program loads at its start: its loader, what is preloaded, and all libraries
// that these need in turn.
func (l *loader) load(at *place, o *object, env environment) *process {
	p := &process{loader: l, env: env, byName: map[string]*loaded{}, secure: at.info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0}
	p.program = &loaded{path: at.real, real: at.real, object: o}
	name := path.Base(o.interp)
	if rest, ok := strings.CutPrefix(name, "ld-musl-"); ok {
		p.musl, _, _ = strings.Cut(rest, ".so")
		p.usually = p.muslFolders()
	}
	if o.interp != "" {
		p.interp(o)
	}
	if !o.dynamic || o.interp == "" && o.kind == elf.ET_EXEC {
		return p // static: nothing is loaded, and nothing of the environment counts
	}
	todo := []*loaded{p.program}
	if o.interp != "" {
		for _, name := range p.preloaded() {
			if x := p.need(name, p.program, "preloaded"); x != nil {
				todo = append(todo, x)
			}
		}
	}
	p.closure(todo)
	return p
}

// interp adds the loader itself, which musl uses as its C library too.
func (p *process) interp(o *object) {
	at, err := p.tree.regular(o.interp)
	if err != nil {
		p.missing = append(p.missing, fmt.Sprintf("the loader %s of %s is not found", o.interp, p.program.path))
		return
	}
	x := &loaded{path: p.tree.usual(o.interp), real: at.real, object: &object{}, by: p.program, why: "loader"}
	if read, err := p.objectAt(at); err == nil {
		x.object = read
	}
	p.all = append(p.all, x)
	for _, name := range []string{path.Base(o.interp), x.object.soname} {
		if name != "" {
			p.byName[name] = x
		}
	}
}

// preloaded returns the names of LD_PRELOAD, LD_AUDIT and /etc/ld.so.preload.
func (p *process) preloaded() (names []string) {
	if !p.secure {
		names = append(splitList(p.env["LD_PRELOAD"], " :"), splitList(p.env["LD_AUDIT"], ":")...)
	} else if p.env["LD_PRELOAD"]+p.env["LD_AUDIT"]+p.env["LD_LIBRARY_PATH"] != "" {
		p.said = append(p.said, fmt.Sprintf("%s is set-uid or set-gid, so its loader ignores LD_PRELOAD, LD_AUDIT and LD_LIBRARY_PATH", p.program.path))
	}
	if p.musl == "" {
		names = append(names, p.preload...)
	}
	if len(names) > maxNames {
		p.lacks(fmt.Sprintf("more than %d libraries are preloaded into %s: the others are not followed", maxNames, p.program.path))
	}
	return names[:min(len(names), maxNames)]
}

// closure adds what the objects need, breadth first, as the loader does.
func (p *process) closure(todo []*loaded) {
	for ; len(todo) > 0; todo = todo[1:] {
		x := todo[0]
		for _, name := range slices.Concat(x.object.needed, x.object.filters, x.object.audit) {
			if found := p.need(name, x, "library"); found != nil {
				todo = append(todo, found)
			}
		}
	}
}

// need finds the library that an object names. It returns nil if it was found before, or is not
// found, which is said.
func (p *process) need(name string, by *loaded, why string) *loaded {
	if name == "" || p.musl != "" && p.ofMusl(name) || p.tree.spent() != nil {
		return nil
	}
	if p.byName[name] != nil {
		return nil
	}
	tried := map[string]bool{}
	var first *loaded
	some := false
	for _, candidate := range p.candidates(name, by) {
		if tried[candidate.path] || first != nil && !candidate.also {
			continue
		}
		tried[candidate.path] = true
		x := p.open(candidate.path, by, why)
		if x == nil {
			continue
		}
		if candidate.also { // for some processors only: one that cannot do it takes the next
			some = true
			p.closure([]*loaded{x})
			continue
		}
		first = x
		p.byName[name] = x
		if x.object.soname != "" && p.byName[x.object.soname] == nil {
			p.byName[x.object.soname] = x
		}
	}
	if first == nil && !some {
		p.byName[name] = &loaded{object: &object{}} // said once
		p.lacks(fmt.Sprintf("the %s %s of %s is not found", why, name, by.path))
		return nil
	}
	return first
}

// ofMusl reports whether musl has the library in itself.
func (p *process) ofMusl(name string) bool {
	if name == "libc.musl-"+p.musl+".so.1" {
		return true
	}
	rest, ok := strings.CutPrefix(name, "lib")
	return ok && slices.ContainsFunc([]string{"c.so", "pthread.so", "rt.so", "m.so", "dl.so", "util.so", "xnet.so"}, func(s string) bool { return strings.HasPrefix(rest, s) })
}

// open adds the object at a path, if there is one for the machine of the program. The loader passes
// over the others. One that was loaded under another name is not loaded again.
func (p *process) open(file string, by *loaded, why string) *loaded {
	at, err := p.tree.regular(file)
	if err != nil {
		return nil
	}
	o, err := p.objectAt(at)
	if err != nil {
		if !errors.Is(err, errNotELF) {
			p.say(fmt.Sprintf("%s could not be read as a library: %v", file, err))
		}
		return nil
	}
	if o.class != p.program.object.class || o.machine != p.program.object.machine {
		return nil
	}
	if i := slices.IndexFunc(p.all, func(x *loaded) bool { return x.real == at.real }); i >= 0 {
		return p.all[i]
	}
	x := &loaded{path: p.tree.usual(file), real: at.real, object: o, by: by, why: why}
	p.all = append(p.all, x)
	for _, l := range at.planted {
		p.say(fmt.Sprintf("%s leads through the link %s, which another user than root made", file, l))
	}
	return x
}

// splitList returns the parts of a list, without empty ones.
func splitList(s, separators string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(separators, r) })
}
