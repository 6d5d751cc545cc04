// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// A survey is one walk through a folder that a declaration would list.
type survey struct {
	*collector
	folder  *Folder
	seen    int
	full    bool // it has more names than were looked at
	modules []string
	links   []string
	odd     []string // what a measurement would refuse, in words
	foreign []string // what others than root can change, in words
	more    int
}

// look walks through all folders of the proposal. It adds the libraries that shared libraries in them
// load, and the files that links in them lead to.
func (c *collector) look() {
	c.nested()
	var modules []string
	for i := 0; i < len(c.out.Directories); i++ {
		if c.ctx.Err() != nil {
			return
		}
		s := &survey{collector: c, folder: &c.out.Directories[i]}
		top := *s.folder
		s.walk(top.real, top.Path, 1)
		c.out.Directories[i] = *s.folder
		modules = append(modules, s.modules...)
		s.report(&top)
		s.follow(&top)
	}
	c.extensions(modules)
	c.nested()
	slices.SortFunc(c.out.Directories, func(a, b Folder) int { return strings.Compare(a.Path, b.Path) })
}

// nested leaves out folders that are in others.
func (c *collector) nested() {
	all := slices.Clone(c.out.Directories)
	c.out.Directories = slices.DeleteFunc(all, func(d Folder) bool { return c.out.inside(d.Path, d.real) })
}

// walk counts what is below a folder. Links are not followed, as the agent does not.
func (s *survey) walk(real, shown string, depth int) {
	if depth > manifest.MaxDepth {
		s.say(&s.odd, fmt.Sprintf("%s is nested deeper than %d levels", shown, manifest.MaxDepth))
		return
	}
	s.tell(shown)
	entries, more, err := s.entries(real, manifest.MaxNames-s.seen)
	s.full = s.full || more
	if err != nil {
		s.say(&s.odd, fmt.Sprintf("%s could not be read: %v", shown, durable.Cause(err)))
		return
	}
	for _, e := range entries {
		if s.seen == manifest.MaxNames || s.step() != nil {
			s.full = true
			return
		}
		s.seen++
		at := path.Join(real, e.Name())
		info, err := e.Info()
		if err != nil {
			continue
		}
		if err := declaration.CheckText(path.Join(shown, e.Name()), evidence.MaxPath); err != nil {
			s.say(&s.odd, fmt.Sprintf("a name in %s cannot be recorded", shown))
			continue
		}
		s.owner(info, path.Join(shown, e.Name()))
		switch {
		case info.IsDir():
			s.walk(at, path.Join(shown, e.Name()), depth+1)
			continue
		case info.Mode()&fs.ModeSymlink != 0:
			s.links = append(s.links, at)
		case !info.Mode().IsRegular():
			s.say(&s.odd, fmt.Sprintf("%s is not a file, and a measurement refuses it: exclude it", path.Join(shown, e.Name())))
			continue
		case info.Size() > manifest.MaxFileSize:
			s.say(&s.odd, fmt.Sprintf("%s is larger than %d GiB, and a measurement refuses it: exclude it", path.Join(shown, e.Name()), manifest.MaxFileSize>>30))
			continue
		case isModule(e.Name()) && len(s.modules) <= maxModules: // one more is said
			s.modules = append(s.modules, at)
		}
		s.folder.Files++
		s.folder.names += uint64(len(shown) + 1 + len(e.Name()))
		if info.Mode().IsRegular() {
			s.folder.Bytes += uint64(info.Size())
		}
	}
}

// isModule reports whether a file may be a shared library that a program loads by its path.
func isModule(name string) bool {
	return strings.HasSuffix(name, ".so") || strings.Contains(name, ".so.") || strings.HasSuffix(name, ".node")
}

// owner notes who else than root can change what is in a folder.
func (s *survey) owner(info fs.FileInfo, shown string) {
	switch mode := info.Mode(); {
	case !s.trusts(ownerOf(info)):
		s.say(&s.foreign, fmt.Sprintf("%s belongs to uid %d", shown, ownerOf(info)))
	case mode&fs.ModeSymlink != 0:
	case mode.Perm()&0o002 != 0 && (mode&fs.ModeSticky == 0 || !mode.IsDir()):
		s.say(&s.foreign, shown+" is writable for all users")
	case mode.Perm()&0o020 != 0 && !s.trusts(groupOf(info)):
		s.say(&s.foreign, fmt.Sprintf("%s is writable for group %d", shown, groupOf(info)))
	}
}

func (s *survey) say(to *[]string, words string) {
	if len(*to) < 4 {
		*to = append(*to, words)
	} else {
		s.more++
	}
}

// report says what is wrong with a folder.
func (s *survey) report(f *Folder) {
	for _, words := range s.odd {
		s.uncovered("%s", words)
	}
	for _, words := range s.foreign {
		s.warning("%s, so another user than root can change what runs", words)
	}
	if s.more > 0 {
		s.warning("%d more things in %s are like that", s.more, f.Path)
	}
	if s.full {
		s.uncovered("%s has more than %d names, of which not all were looked at: a measurement refuses it", f.Path, manifest.MaxNames)
	}
	if s.folder.Files == 0 {
		s.uncovered("%s has no files, and a measurement of it alone would fail", f.Path)
	}
}

// follow adds the files that links in a folder lead to, unless another user made the link.
func (s *survey) follow(f *Folder) {
	var left []string
	added := 0
	for _, l := range s.links {
		at, err := s.find(l)
		if err != nil || s.out.covers(at.real) || below(at.real, f.real) {
			continue // a link to nothing is covered by its text
		}
		switch {
		case len(at.planted) > 0:
			s.warning("%s leads out of %s to %s, and another user than root made it: it is not followed", l, f.Path, at.real)
		case at.info.Mode().IsRegular() && added < maxLinked:
			if s.file(at.real, groupArgument, "the link "+l+" leads to it") != nil {
				added++
			}
		case at.info.IsDir() && !shared(at.real) && added < maxLinked && f.Why != linked:
			if s.directory(at.real, linked, true) {
				added++
			}
		default:
			left = append(left, l)
		}
	}
	if n := len(left); n > 0 {
		s.uncovered("links in %s lead out of it to what is not covered: %s", f.Path, some(left, maxOthers))
	}
}

// linked is why a folder is added that a link leads to. Links in it are not followed to more folders.
const linked = "a link in a covered folder leads to it"

// some returns the first few of a list, and how many more there are.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], " "), len(list)-n)
}

// extensions adds the libraries that shared libraries in covered folders load. They are loaded into
// a program, and find libraries by its search paths too.
func (c *collector) extensions(modules []string) {
	if c.current == nil {
		return
	}
	if len(modules) > maxModules {
		c.uncovered("more than %d shared libraries are in the folders: what the others load is not followed", maxModules)
		modules = modules[:maxModules]
	}
	p := *c.current
	p.all, p.missing, p.said = slices.Clone(p.all), nil, nil
	have := map[string]bool{} // loaded by their path before others need them
	for _, file := range modules {
		have[path.Base(file)] = true
	}
	var missing []string
	more := 0
	for _, file := range modules {
		at, err := c.regular(file)
		if err != nil || c.ctx.Err() != nil {
			continue
		}
		o, err := c.loader.objectAt(at)
		if err != nil || !o.dynamic || o.class != p.program.object.class || o.machine != p.program.object.machine {
			continue
		}
		c.tell(file)
		p.missing, p.byName = nil, map[string]*loaded{}
		for _, name := range o.needed {
			if have[name] {
				p.byName[name] = p.program
			}
		}
		p.closure([]*loaded{{path: file, real: at.real, object: o, by: p.program, why: "extension"}})
		few := p.missing[:min(len(p.missing), maxOthers-len(missing))]
		missing, more = append(missing, few...), more+len(p.missing)-len(few)
	}
	for _, x := range p.all {
		if !c.out.covers(x.real) {
			c.file(x.path, groupLibrary, x.why+" of "+x.by.path)
		}
	}
	for _, s := range missing {
		c.uncovered("%s", s)
	}
	if more > 0 {
		c.uncovered("%d more libraries of shared libraries in covered folders are not found", more)
	}
	for _, s := range p.said {
		c.warning("%s", s)
	}
}
