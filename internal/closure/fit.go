// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/unitfile"
	"github.com/cvm-agentd/agentd/pcr"
)

// Sizes in a record beside the entries, about: the declaration's other members. The whole of a
// record has a limit, and so the proposal stays below it with some room.
const (
	recordBase  = 4 << 10
	recordLimit = pcr.MaxContent - pcr.MaxContent/16
)

// entrySize is the size of an entry of a record without its path.
var entrySize = func() uint64 {
	b, err := strictjson.Encode(pcr.ManifestEntry{Path: "", Mode: 0o100644, Size: 1 << 24})
	if err != nil {
		return 256
	}
	return uint64(len(b)) + 1
}()

// measure counts what a record of the proposal would have.
func (c *collector) measure() {
	p := c.out
	p.Entries, p.Bytes, p.Record = 0, 0, recordBase
	inside := func(real string, but int) bool {
		for i, d := range p.Directories {
			if i != but && below(real, d.real) && (but < 0 || d.real != real || i < but) {
				return true
			}
		}
		return false
	}
	for i, d := range p.Directories {
		if inside(d.real, i) {
			continue
		}
		p.Entries += d.Files
		p.Bytes += d.Bytes
		p.Record += d.names + uint64(d.Files)*entrySize
	}
	seen := map[string]bool{}
	for _, f := range p.Files {
		for _, name := range []string{f.Path, f.real} {
			if seen[name] || inside(name, -1) {
				continue
			}
			seen[name] = true
			p.Entries++
			p.Record += uint64(len(name)) + entrySize
			if at, err := c.find(name); err == nil && name == f.real {
				p.Bytes += uint64(at.info.Size())
			}
		}
	}
}

// fit leaves folders out until the agent would accept the rest: those first that are proposed and
// not demanded, of these the largest.
func (c *collector) fit() {
	for {
		c.measure()
		p := c.out
		problem := ""
		switch {
		case p.Entries > manifest.MaxFiles:
			problem = fmt.Sprintf("%d files and links, and the agent accepts %d of one application", p.Entries, manifest.MaxFiles)
		case p.Record > recordLimit:
			problem = fmt.Sprintf("a record of %d KiB for %d files and links, and the log accepts %d KiB", p.Record>>10, p.Entries, pcr.MaxContent>>10)
		case p.Bytes > manifest.MaxAppSize:
			problem = fmt.Sprintf("%d GiB, and the agent accepts %d of one application", p.Bytes>>30, manifest.MaxAppSize>>30)
		default:
			return
		}
		if len(p.Directories) == 0 {
			c.uncovered("the application has %s: declare it as several applications", problem)
			return
		}
		largest := slices.MaxFunc(p.Directories, func(a, b Folder) int {
			if a.last != b.last {
				return cmp.Compare(b2i(a.last), b2i(b.last))
			}
			return cmp.Compare(a.Files, b.Files)
		})
		p.Directories = slices.DeleteFunc(p.Directories, func(d Folder) bool { return d.Path == largest.Path })
		c.uncovered("the folder %s (%s) has %d files and is left out: with it the application has %s. Declare it as an application of its own, pack what is in it into one file, or list the parts that run",
			largest.Path, largest.Why, largest.Files, problem)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// warn says of each file and folder who else than root can change it.
func (c *collector) warn() {
	said := map[string]bool{}
	check := func(shown, real string) {
		if words := c.writers(real); words != "" && !said[words] {
			if words[:3] != "it " {
				said[words] = true // a folder above, which others share
			}
			c.warning("%s can be changed by another user than root: %s. Give it to root", shown, words)
		}
	}
	for _, f := range c.out.Files {
		check(f.Path, f.real)
	}
	for _, d := range c.out.Directories {
		check(d.Path, d.real)
	}
}

// Declaration returns the text of the declaration. Notes that do not fit into the file are left to
// the command, which says all.
func (p *Proposal) Declaration(s *unitfile.Service) ([]byte, error) {
	contents := p.Contents()
	notes := contents.Notes
	for n := len(notes); ; n /= 2 {
		contents.Notes = notes[:n:n]
		if p.Cut = n < len(notes); p.Cut {
			contents.Notes = append(contents.Notes, fmt.Sprintf("%d more things are not covered: `agentctl app add %s --dry-run` shows them all", len(notes)-n, s.Name))
		}
		b, err := s.Declaration(contents)
		if err != nil || len(b) <= declaration.MaxDeclaration || n == 0 {
			return b, err
		}
	}
}
