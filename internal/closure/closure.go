// SPDX-License-Identifier: Apache-2.0

// Package closure proposes the declaration of an application: the files that a unit starts, and
// what these load and are configured by, as far as files say so. It reads executables, scripts,
// search paths and lists of packages, and runs none of them. What it cannot follow it says in
// words. Any user of the machine may have written what it reads, so all of it is bounded.
//
// A proposal is a help for the person who signs it: a program can load whatever it likes.
package closure

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// A File is a file that belongs into a declaration.
type File struct {
	Path  string
	Group string // what it has in common with others
	Why   string // by what it belongs there
	real  string
}

// A Folder is a folder that belongs into a declaration with everything below it.
type Folder struct {
	Path  string
	Why   string
	Files int // files and links in it
	Bytes uint64
	real  string
	names uint64 // bytes of their paths
	last  bool   // proposed, and not demanded: left out first if there is too much
}

// A Proposal is what a declaration would list, and what it would not cover.
type Proposal struct {
	Files       []File
	Directories []Folder
	Uncovered   []string // in words
	Warnings    []string // in words: what others than root can change
	Entries     int      // files and links of the whole
	Bytes       uint64   // of their content
	Record      uint64   // bytes of the record in the log, about
	Cut         bool     // the text of the declaration has not all that is not covered
}

// Groups of files, in the order in which a declaration lists them.
const (
	groupStarted  = "what the unit starts"
	groupNested   = "what runs that"
	groupLibrary  = "shared libraries, and their loader"
	groupArgument = "named on command lines and in variables"
	groupUnit     = "the unit and its environment"
	groupPackage  = "of the package"
	groupRunning  = "mapped by the running unit"
)

var groups = []string{groupStarted, groupNested, groupLibrary, groupArgument, groupUnit, groupPackage, groupRunning}

// A collector collects what belongs to an application.
type collector struct {
	*tree
	ctx     context.Context
	tell    func(path string) // what is looked at
	service *unitfile.Service
	loader  *loader
	env     environment
	out     *Proposal
	files   map[string]bool // by path
	folders map[string]bool // by path
	run     map[string]bool // commands that were followed
	mains   []*place        // programs of ExecStart= that are not interpreters
	current *process        // of the program that is looked at
}

// Propose returns what the declaration of a service would list. Root is "/" on a running machine.
// Tell is called with each path that is about to be looked at, unless it is nil. An error says why
// the service cannot be declared.
func Propose(ctx context.Context, root string, s *unitfile.Service, tell func(path string)) (*Proposal, error) {
	c, err := newCollector(ctx, root, s, tell)
	if err != nil {
		return nil, err
	}
	return c.propose()
}

// propose collects all. It returns no proposal if not all was looked at.
func (c *collector) propose() (*Proposal, error) {
	if err := c.commands(); err != nil {
		return nil, cmp.Or(c.spent(), err)
	}
	c.variables()
	c.unit()
	c.packages()
	c.look()
	c.fit()
	c.warn()
	for _, words := range c.tree.said {
		c.uncovered("%s", words)
	}
	if err := c.spent(); err != nil {
		return nil, err
	}
	return c.out, nil
}

func newCollector(ctx context.Context, root string, s *unitfile.Service, tell func(path string)) (*collector, error) {
	if err := s.Declarable(); err != nil {
		return nil, err
	}
	t, err := newTree(root)
	if err != nil {
		return nil, err
	}
	t.given = ctx.Err
	if tell == nil {
		tell = func(string) {}
	}
	c := &collector{
		tree: t, ctx: ctx, tell: tell, service: s, loader: newLoader(t), out: &Proposal{},
		files: map[string]bool{}, folders: map[string]bool{}, run: map[string]bool{},
	}
	c.environment()
	return c, nil
}

// commands follows all commands of the unit. Those of ExecStart= must be there.
func (c *collector) commands() error {
	for i, x := range c.service.Commands {
		if i == maxPrograms {
			c.uncovered("more than %d commands are not followed", maxPrograms)
			break
		}
		if err := c.follow("ExecStart", x, groupStarted); err != nil {
			return err
		}
	}
	for i, x := range c.service.Beside {
		if i == maxPrograms {
			c.uncovered("more than %d commands beside ExecStart= are not followed", maxPrograms)
			break
		}
		if err := c.follow(x.Setting, x.Command, groupStarted); err != nil {
			c.uncovered("%s=%s: %v", x.Setting, x.Program, err)
		}
	}
	for _, said := range c.service.Unread {
		c.uncovered("%s", said)
	}
	return c.ctx.Err()
}

// unit adds the files of the unit. Those in /run are made anew at each boot.
func (c *collector) unit() {
	for _, f := range c.service.Files {
		if f == unitfile.DropInPath(c.service.Name) {
			continue // of `agentctl app enable`
		}
		if strings.HasPrefix(f, "/run/") {
			c.uncovered("the unit file %s is made when the machine runs", f)
			continue
		}
		c.file(f, groupUnit, "it says what is started")
	}
	for _, f := range c.loader.files {
		c.file(f, groupUnit, "the loader of libraries reads it")
	}
	for _, s := range c.loader.said {
		c.uncovered("%s", s)
	}
}

// file adds a file. It says what it leaves out.
func (c *collector) file(p, group, why string) *place {
	at, err := c.regular(p)
	if err != nil {
		c.uncovered("%s is named (%s), but cannot be covered: %v", p, why, durable.Cause(err))
		return nil
	}
	if c.files[at.asked] {
		return at
	}
	if problem := c.declarable(at); problem != "" {
		c.uncovered("%s (%s) %s", p, why, problem)
		return nil
	}
	if len(c.out.Files) == manifest.MaxFiles {
		c.uncovered("more than %d files are not listed", manifest.MaxFiles)
		return nil
	}
	c.planted(at)
	c.files[at.asked] = true
	c.out.Files = append(c.out.Files, File{Path: at.asked, Group: group, Why: why, real: at.real})
	return at
}

// emptied are folders that a boot empties.
var emptied = []string{"/tmp", "/var/tmp", "/run"}

// declarable returns why a declaration cannot list a place; "" if it can.
func (c *collector) declarable(at *place) string {
	for _, p := range []string{at.asked, at.real} {
		if err := declaration.CheckText(p, evidence.MaxPath); err != nil {
			return fmt.Sprintf("has a name that cannot be recorded: %v", err)
		}
		for _, dir := range []string{"/proc", "/sys", "/dev"} {
			if below(p, dir) {
				return "is in " + dir + ", whose files do not keep their content"
			}
		}
		for _, dir := range emptied {
			if below(p, dir) {
				return "is in " + dir + ", which a boot empties, so it is not covered"
			}
		}
	}
	return ""
}

// planted says that a path leads through links of other users.
func (c *collector) planted(at *place) {
	for _, l := range at.planted {
		c.warning("%s leads to %s through the link %s, which another user than root made and can turn", at.asked, at.real, l)
	}
}

// directory adds a folder with everything below it.
func (c *collector) directory(p, why string, last bool) bool {
	at, ok := c.folder(p)
	if !ok {
		return false
	}
	if c.folders[at.asked] {
		return true
	}
	problem := c.declarable(at)
	if problem == "" && (shared(at.asked) || shared(at.real)) {
		problem = "has files of other programs too: list those that belong to the application"
	}
	if problem != "" {
		c.uncovered("the folder %s (%s) %s", p, why, problem)
		return false
	}
	if len(c.out.Directories) == maxFolders {
		c.uncovered("more than %d folders are not listed", maxFolders)
		return false
	}
	c.planted(at)
	c.folders[at.asked] = true
	c.out.Directories = append(c.out.Directories, Folder{Path: at.asked, Why: why, real: at.real, last: last})
	return true
}

// sharedFolders have files of many programs, so no application is declared by them.
var sharedFolders = strings.Fields(`
	/ /bin /sbin /lib /lib32 /lib64 /libx32 /boot /etc /home /media /mnt /opt /root /srv /usr /var
	/usr/bin /usr/sbin /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/share /usr/include /usr/games
	/usr/local /usr/local/bin /usr/local/sbin /usr/local/lib /usr/local/lib64 /usr/local/share /usr/local/etc /usr/local/libexec
	/usr/lib/systemd /etc/systemd /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu /usr/lib/i386-linux-gnu
	/usr/local/lib/x86_64-linux-gnu /var/lib /var/log /var/cache /var/spool /var/opt /usr/lib/modules /usr/share/doc
	/etc/default /etc/sysconfig /etc/ssl /etc/ssl/certs /etc/ssl/private /etc/pki /nix /nix/store /snap
`)

func shared(p string) bool { return slices.Contains(sharedFolders, p) }

// below reports whether p is dir, or in it.
func below(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// uncovered says what the declaration would not cover.
func (c *collector) uncovered(format string, args ...any) {
	say(&c.out.Uncovered, fmt.Sprintf(format, args...))
}

// warning says who else can change what it would cover.
func (c *collector) warning(format string, args ...any) {
	say(&c.out.Warnings, fmt.Sprintf(format, args...))
}

// say appends words once. It says how many more there are than fit.
func say(to *[]string, words string) {
	switch {
	case slices.Contains(*to, words) || len(*to) > maxWords:
	case len(*to) == maxWords:
		*to = append(*to, fmt.Sprintf("more than %d such things: the others are not listed", maxWords))
	default:
		*to = append(*to, words)
	}
}

// covers reports whether a path without links is listed, or below a folder that is.
func (p *Proposal) covers(real string) bool {
	return slices.ContainsFunc(p.Files, func(f File) bool { return f.real == real }) ||
		slices.ContainsFunc(p.Directories, func(d Folder) bool { return below(real, d.real) })
}

// inside reports whether a listed folder has a path, and what it leads to, anyway.
func (p *Proposal) inside(at, real string) bool {
	return slices.ContainsFunc(p.Directories, func(d Folder) bool { return at != d.Path && below(at, d.Path) && below(real, d.real) })
}

// Contents returns the lists of the declaration. Files that a listed folder has anyway are left
// out, unless they are what the unit starts: the person who reads it looks for these.
func (p *Proposal) Contents() *unitfile.Contents {
	out := &unitfile.Contents{Notes: p.notes()}
	for _, g := range groups {
		group := unitfile.Group{Title: g}
		for _, f := range p.Files {
			if f.Group == g && (g == groupStarted || !p.inside(f.Path, f.real)) {
				group.Files = append(group.Files, f.Path)
			}
		}
		if len(group.Files) > 0 {
			out.Groups = append(out.Groups, group)
		}
	}
	for _, d := range p.Directories {
		out.Directories = append(out.Directories, d.Path)
	}
	return out
}

// notes are the comments of the declaration.
func (p *Proposal) notes() (out []string) {
	for _, s := range p.Uncovered {
		out = append(out, "not covered: "+s)
	}
	for _, s := range p.Warnings {
		out = append(out, "warning: "+s)
	}
	return out
}

// byPath sorts files by their paths.
func byPath(a, b File) int { return cmp.Compare(a.Path, b.Path) }

// absolute returns a path as it is in a folder.
func absolute(p, in string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join("/", in, p)
}
