// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// Guarded is an app that asks for the gate.
type Guarded struct {
	gatewire.App
	Declaration evidence.Digest // that asks
}

// asksGate reports whether the declaration in force asks for the gate. The caller holds mu.
func (x *app) asksGate() bool {
	return x.declaration != nil && x.declaration.Gate != declaration.NoGate
}

// AskGate returns the apps that ask for the gate. The value says whether their files are known: they
// were measured by the declaration in force.
func (a *Apps) AskGate() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]bool)
	for name, x := range a.apps {
		if x.asksGate() {
			out[name] = x.located
		}
	}
	return out
}

// Guarded returns the apps that ask for the gate and were measured by the declaration in force,
// ascending by name. Before that their folders are not known, and what starts in one that the gate
// does not know yet would be a gap.
func (a *Apps) Guarded() []Guarded {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Guarded
	for _, x := range a.apps {
		d := x.declaration
		if !x.asksGate() || !x.located {
			continue
		}
		g := gatewire.App{App: x.name, Enforce: d.Gate == declaration.GateEnforce, Folders: folders(d, x.paths)}
		out = append(out, Guarded{g, d.Digest})
	}
	slices.SortFunc(out, func(x, y Guarded) int { return cmp.Compare(x.App.App, y.App.App) })
	return out
}

// folders returns the folders that contain the files of an app: as declared, and as found last.
func folders(d *declaration.Declaration, found []string) (out []gatewire.Folder) {
	names := make(map[string]map[string]bool) // by folder; nil if all files in it are the app's
	for _, dir := range d.Directories {
		names[dir] = nil
	}
	inside := func(p string) bool {
		return slices.ContainsFunc(d.Directories, func(dir string) bool { return strings.HasPrefix(p, dir+"/") })
	}
	for _, p := range slices.Concat(d.Files, found) {
		folder := path.Dir(p)
		switch known, ok := names[folder]; {
		case ok && known == nil:
		case inside(p): // and the folders above it
			for f := folder; inside(f); f = path.Dir(f) {
				names[f] = nil
			}
		case ok:
			known[path.Base(p)] = true
		default:
			names[folder] = map[string]bool{path.Base(p): true}
		}
	}
	for folder, n := range names {
		f := gatewire.Folder{Path: folder}
		for name := range n {
			f.Names = append(f.Names, name)
		}
		slices.Sort(f.Names)
		out = append(out, f)
	}
	slices.SortFunc(out, func(x, y gatewire.Folder) int { return cmp.Compare(x.Path, y.Path) })
	return out
}

// Pinned reports whether the manifest of app lists an executable, and already did so at the last
// measurement that was asked for: a file that changed since is not enough.
func (a *Apps) Pinned(app string, d evidence.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.apps[app]
	return x != nil && x.measured && x.executables[d] && x.pinned[d]
}

// Manifest returns the digest of the manifest that is in force, zero if the app is not measured.
func (a *Apps) Manifest(app string) evidence.Digest {
	a.mu.Lock()
	defer a.mu.Unlock()
	if x := a.apps[app]; x != nil && x.measured {
		return x.digest
	}
	return evidence.Digest{}
}

// Declaration returns the digest of the declaration in force by which an app was measured and asks for
// the gate, zero if there is none: see [Apps.Guarded].
func (a *Apps) Declaration(app string) evidence.Digest {
	a.mu.Lock()
	defer a.mu.Unlock()
	if x := a.apps[app]; x != nil && x.located && x.asksGate() {
		return x.declaration.Digest
	}
	return evidence.Digest{}
}

// GateChanged returns a channel that has a value when Guarded may return something else, for one
// receiver.
func (a *Apps) GateChanged() <-chan struct{} { return a.gate }

// gateChange says that. It never waits.
func (a *Apps) gateChange() {
	select {
	case a.gate <- struct{}{}:
	default:
	}
}
