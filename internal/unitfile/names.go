// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/unitname"
)

// errLoop is returned for a name that leads over too many aliases, for which systemd finds no
// unit, not even by its template.
var errLoop = fmt.Errorf("its aliases lead in a circle, or over too many names: %w", ErrNoUnit)

// A meaning is what systemd makes of a name that is the first of its unit to be loaded.
type meaning struct {
	path    string   // of the unit file
	id      string   // the unit's own name, which its processes have
	names   []string // all names, its own first
	dropIns []string
}

func (m *meaning) same(o *meaning) bool {
	return m.path == o.path && m.id == o.id && slices.Equal(m.dropIns, o.dropIns)
}

// find returns what a name means, if that is the same under whichever of its names the unit is
// loaded first.
//
// systemd computes the names of a unit from the one that it loads first, and other names may
// mean another file. If w@1.service is a link to d-e@.service, and d-e@1.service is a file of its
// own, then w@1.service is loaded from the template, and d-e@1.service is an alias of it. But if
// d-e@1.service is loaded first, then it has its own file, and w@1.service is an alias of it.
func (x *index) find(name string) (*meaning, error) {
	if err := x.ofAlias(name); err != nil {
		return nil, err
	}
	m, err := x.meaning(name)
	if err != nil {
		return nil, err
	}
	if hidden, err := masked(x.root, m.path); err != nil || hidden {
		return m, nil // a masked unit has no names, and the caller refuses both
	}
	todo := append(slices.Clone(m.names), x.claimants(name)...)
	for i := 0; i < len(todo); i++ {
		other, err := x.meaning(todo[i])
		if err != nil || !m.same(other) {
			return nil, fmt.Errorf("%s: systemd takes %s for the same unit, with another file, name or drop-ins, so the one that it loads first counts: remove one of the two names, or %w", name, todo[i], errByHand)
		}
		for _, n := range other.names {
			if !slices.Contains(todo, n) {
				todo = append(todo, n)
			}
		}
	}
	return m, nil
}

// ofAlias refuses a template, or the instance of one, that is an alias of another template.
// Versions of systemd differ in what they call an instance of it, and it depends on which name is
// loaded first.
func (x *index) ofAlias(name string) error {
	n, err := unitname.Parse(name)
	if err != nil {
		return err
	}
	template, ok := n.TemplateOf()
	if !ok && !n.Template {
		return nil
	}
	if n.Template {
		template = name
	}
	path, err := x.follow(template)
	if to := filepath.Base(path); err == nil && to != template {
		return fmt.Errorf("%s: its template is an alias of %s: start and declare an instance of that, since versions of systemd differ in what they call it, or %w", name, to, errByHand)
	}
	return nil
}

// claimants returns the instances of aliases of a template that make the instance name a name of
// theirs, although it has a unit file of its own.
func (x *index) claimants(name string) []string {
	n, err := unitname.Parse(name)
	if err != nil {
		return nil
	}
	template, ok := n.TemplateOf()
	if !ok {
		return nil
	}
	var out []string
	for _, alias := range x.aliases(template) {
		other := instance(alias, n.Instance)
		if m, err := x.meaning(other); err == nil && slices.Contains(m.names, name) {
			out = append(out, other)
		}
	}
	return out
}

// meaning returns what systemd makes of a name that it loads first (unit_load_fragment).
func (x *index) meaning(name string) (*meaning, error) {
	n, err := unitname.Parse(name)
	if err != nil {
		return nil, err
	}
	path, err := x.follow(name)
	if template, ok := n.TemplateOf(); ok && errors.Is(err, ErrNoUnit) && !errors.Is(err, errLoop) {
		path, err = x.follow(template)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w in the folders that `systemd-analyze unit-paths` lists", name, err)
	}
	base := filepath.Base(path)
	names, err := x.names(n, name, base)
	if err == nil && base != name {
		var more []string
		more, err = x.names(n, base, base)
		names = append(names, more...)
	}
	if err != nil {
		return nil, err
	}
	// The file names the unit, but only if that name was found to be one. Otherwise it becomes an
	// alias, and the unit is called as it was loaded.
	m := &meaning{path: path, id: instance(base, n.Instance)}
	if !slices.Contains(names, m.id) {
		m.id = name
	}
	m.names = []string{m.id}
	for _, other := range names {
		if other = instance(other, n.Instance); !slices.Contains(m.names, other) {
			m.names = append(m.names, other)
		}
	}
	m.dropIns, err = x.dropIns(m.names, n.Type)
	return m, err
}

// names returns of, and its aliases for the unit n with a unit file of the name base (add_names).
func (x *index) names(n unitname.Name, of, base string) ([]string, error) {
	out := []string{of}
	for _, alias := range x.aliases(of) {
		if a, err := unitname.Parse(alias); err != nil || n.Template != a.Template && n.Instance == "" {
			continue
		}
		name := instance(alias, n.Instance)
		if name != alias {
			path, err := x.follow(name)
			if errors.Is(err, errLoop) {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if err == nil && filepath.Base(path) != base {
				continue // this instance is another unit
			}
		}
		out = append(out, name)
	}
	return out, nil
}

// instance returns the instance of a template, and any other name as it is.
func instance(name, of string) string {
	n, err := unitname.Parse(name)
	if err != nil || !n.Template || of == "" {
		return name
	}
	n.Template, n.Instance = false, of
	return n.String()
}

// aliases returns the names that lead to the unit of a name, with itself if there is a file of
// that name (the map of names in unit_file_build_name_map). A link from an instance to a template
// is an alias of that instance of the template, and a masked unit has no aliases.
func (x *index) aliases(of string) []string {
	var out []string
	for _, alias := range slices.Sorted(maps.Keys(x.ids)) {
		path, err := x.follow(alias)
		if err != nil {
			continue
		}
		n, err := unitname.Parse(alias)
		if err != nil || instance(filepath.Base(path), n.Instance) != of {
			continue
		}
		if hidden, err := masked(x.root, path); err == nil && !hidden {
			out = append(out, alias)
		}
	}
	return out
}

// follow returns the path of a unit file, over aliases (unit_ids_map_get). An alias may lead to an
// instance that only a template has a file for.
func (x *index) follow(name string) (string, error) {
	for hop := range followed {
		to, ok := x.ids[name]
		if !ok {
			n, err := unitname.Parse(name)
			if err != nil {
				return "", err
			}
			template, instance := n.TemplateOf()
			if to, ok = x.ids[template]; hop == 0 || !instance || !ok {
				return "", ErrNoUnit
			}
		}
		if filepath.IsAbs(to) {
			return to, nil
		}
		name = to
	}
	return "", errLoop
}

// dropIns returns the drop-ins of a unit in the order of their names, with those of all units of
// its kind. One in an earlier folder hides those of the same name in later folders, and one of the
// unit's own name hides those of its aliases (unit_file_find_dropin_paths). The order of the
// aliases is that of a hash table, and so not defined: what depends on it is an error.
func (x *index) dropIns(names []string, kind string) ([]string, error) {
	found, byAlias := map[string]string{}, map[string]bool{}
	for i, level := range append(slices.Clone(names), kind) {
		these, err := x.dropInsOf(level)
		if err != nil {
			return nil, err
		}
		alias := i > 0 && i < len(names)
		for name, path := range these {
			switch before, ok := found[name]; {
			case !ok:
				found[name], byAlias[name] = path, alias
			case alias && byAlias[name] && before != path:
				return nil, fmt.Errorf("%s and %s are of different aliases of %s, and systemd reads one of them, but does not define which: give them different names, or %w", before, path, names[0], errByHand)
			}
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out, nil
}

// dropInsOf returns the drop-ins of one name of a unit, by their names.
func (x *index) dropInsOf(level string) (map[string]string, error) {
	found := map[string]string{}
	for _, dir := range folders {
		for _, of := range levels(level) {
			d := filepath.Join(dir, of+".d")
			entries, err := x.list(d)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if name := e.Name(); strings.HasSuffix(name, ".conf") && !strings.HasPrefix(name, ".") && found[name] == "" {
					found[name] = filepath.Join(d, name)
				}
			}
		}
	}
	return found, nil
}

// levels returns whose drop-ins are those of a name: its own, its template's, and of a-b-c.service
// those of a-b-.service and a-.service.
func levels(name string) []string {
	out := []string{name}
	n, err := unitname.Parse(name)
	if err != nil {
		return out
	}
	if template, ok := n.TemplateOf(); ok {
		out = append(out, template)
		n.Template, n.Instance = true, ""
	}
	for {
		dash := strings.LastIndexByte(strings.TrimRight(n.Prefix, "-"), '-')
		if dash < 0 {
			return out
		}
		n.Prefix = n.Prefix[:dash+1]
		out = append(out, n.String())
	}
}
