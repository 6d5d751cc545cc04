// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/closure"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

const addUsage = `Usage: agentctl app add UNIT [--app NAME] [--running] [--dry-run | --yes] [--json]
                         [--root DIR]

Write a declaration for the application that a unit starts. The command reads the unit
with its drop-ins, and proposes what belongs to the application:

  - the programs of ExecStart=, ExecStartPre=, ExecStartPost=, ExecReload= and the like,
    their interpreters, and the programs that these start by their arguments
  - shared libraries and their loader, found as the loader finds them
  - scripts with their folder, virtual environments and the standard library of Python,
    class paths and the runtime of Java, node_modules
  - configuration that arguments and variables name, the unit, its EnvironmentFile=
  - the files of the Debian package of the program

It runs none of them. What it cannot follow, and what users other than root can change,
is listed as a comment: read that, and complete the declaration. What a program loads
while it runs (dlopen, plugins, code that it fetches) shows only with --running, and only
as far as it is loaded then.

UNIT is a service, without its type too. An alias is followed to the unit that it names.
A template (worker@.service) declares all its instances as one application: so must
services be that a socket starts for each connection (Accept=yes).

  --app NAME    name of the application (default: the unit's, without .service)
  --running     look at the processes of the unit too: add the code that they have mapped
                and that only root can change, and say what else they use. If the unit is
                declared already, use it with --dry-run: the declaration is compared too
  --dry-run     show the declaration, and write nothing
  --yes         write without asking
  --json        the proposal as JSON; with --dry-run or --yes
  --root DIR    work on the folder of a machine that is being built

Examples:
  agentctl app add billing.service
  agentctl app add billing.service --running --dry-run
  agentctl app add worker@.service
  agentctl app add worker@1.service --app worker-1 --yes
`

// addition is what app add prints as JSON.
type addition struct {
	App         string         `json:"app"`                  // name of the application
	Unit        string         `json:"unit"`                 // name of the unit
	User        string         `json:"user"`                 // user of the unit
	DynamicUser bool           `json:"dynamicUser,omitzero"` // systemd gives it a uid at each start
	Source      string         `json:"source"`               // path of the declaration
	Written     bool           `json:"written"`              // whether the declaration was written
	Declaration string         `json:"declaration"`          // its text
	Files       []addedFile    `json:"files"`                // files that it lists
	Directories []addedFolder  `json:"directories"`          // folders that it lists
	Uncovered   []string       `json:"uncovered"`            // in words: what it does not cover
	Warnings    []string       `json:"warnings"`             // in words: what others than root can change
	Entries     uint64         `json:"entries"`              // files and links of the whole
	Bytes       uint64         `json:"bytes"`                // of their content
	Record      uint64         `json:"record"`               // bytes of the record in the log, about
	Running     *addedRunning  `json:"running,omitempty"`    // with --running
	Declared    *addedDeclared `json:"declared,omitempty"`
}

// addedFile is a file of a proposal.
type addedFile struct {
	Path  string `json:"path"`  // path of the file
	Group string `json:"group"` // what it has in common with others
	Why   string `json:"why"`   // by what it belongs to the application
}

// addedFolder is a folder of a proposal.
type addedFolder struct {
	Path  string `json:"path"`  // path of the folder
	Why   string `json:"why"`   // by what it belongs to the application
	Files uint64 `json:"files"` // files and links in it
	Bytes uint64 `json:"bytes"` // of their content
}

// addedRunning is what was seen of a running unit.
type addedRunning struct {
	Processes uint64   `json:"processes"` // processes that it has
	Code      []string `json:"code"`      // files that are mapped with execute permission
	Opened    []string `json:"opened"`    // other files that are open or mapped for reading
	Written   []string `json:"written"`   // files that are open for writing
}

// addedDeclared compares the declaration in force with the running unit.
type addedDeclared struct {
	App       string   `json:"app"`       // name of the application
	Source    string   `json:"source"`    // path of the declaration
	Uncovered []string `json:"uncovered"` // in words: what the running unit uses and it does not cover
}

// checkFlags refuses flags that contradict each other.
func (u *unitFlags) checkFlags(json bool) error {
	switch {
	case u.dryRun && u.yes:
		return errors.New("--dry-run and --yes cannot be combined: give one of the two")
	case u.running && filepath.Clean(u.root) != "/":
		return errors.New("--running needs the machine that runs the unit: --root is a folder")
	case json && !u.dryRun && !u.yes:
		return errors.New("--json cannot ask: add --dry-run, or --yes to write")
	}
	return nil
}

func (t *terminal) addApp(ctx context.Context, unit string, u *unitFlags) error {
	if err := u.checkFlags(t.json); err != nil {
		return misuse(err)
	}
	service, err := unitfile.Load(u.root, unit)
	if err != nil {
		return misuse(err)
	}
	p, live, err := t.propose(ctx, service, u)
	if err != nil {
		return misuse(err)
	}
	text, err := p.Declaration(service)
	if err != nil {
		return misuse(err)
	}
	unit = service.Name
	name := cmp.Or(u.app, appName(unit))
	user, dynamic, err := service.RunsAs()
	if err != nil {
		return misuse(err)
	}
	a := added(p, live, &addition{App: name, Unit: unit, User: user, DynamicUser: dynamic, Source: filepath.Join(appsFolder, name+".toml"), Declaration: string(text)})
	// The agent reads it the same way, apart from the user: an image may not have it yet.
	if _, err := declaration.Parse(name, a.Source, text, declaration.AnyUser()); err != nil {
		return misuse(err)
	}
	declared, err := declarations(u.root)
	if err != nil {
		return misuse(err)
	}
	full, err := unitfile.Place(u.root, a.Source)
	if err != nil {
		return misuse(err)
	}
	if names := declarers(declared, unit, sameUnit); len(names) > 0 {
		at := declared[names[0]]
		if !u.dryRun {
			return misuse(fmt.Errorf("%s is declared already, as %s in %s", unit, names[0], at.File)).withHint("--dry-run shows a proposal, and with --running what the declaration does not cover")
		}
		a.Declared = &addedDeclared{App: at.Name, Source: at.File, Uncovered: []string{}}
		if live != nil {
			a.Declared.Uncovered = append(a.Declared.Uncovered, live.Compare(closure.Declared(at))...)
		}
	}
	if _, err := os.Lstat(full); err == nil && !u.dryRun {
		return misuse(fmt.Errorf("%s exists: choose another name with --app", a.Source))
	}
	if u.dryRun {
		return t.printAddition(a, p)
	}
	return t.writeAddition(a, full, u)
}

// propose collects what belongs to a service. On a terminal it says now and then what it reads.
func (t *terminal) propose(ctx context.Context, service *unitfile.Service, u *unitFlags) (*closure.Proposal, *closure.Live, error) {
	var at atomic.Pointer[string]
	if t.follows {
		defer t.tellEvery(ctx, progressPause, func(context.Context) string {
			if p := at.Load(); p != nil {
				return "still reading, at " + *p
			}
			return ""
		})()
	}
	p, err := closure.Propose(ctx, u.root, service, func(path string) { at.Store(&path) })
	if err != nil || !u.running {
		return p, nil, err
	}
	live, err := closure.Look(ctx, service.Name)
	if err != nil {
		return nil, nil, err
	}
	return p, live, p.Running(ctx, live)
}

// added fills in what a proposal lists.
func added(p *closure.Proposal, live *closure.Live, a *addition) *addition {
	a.Files, a.Directories = []addedFile{}, []addedFolder{}
	for _, f := range p.Files {
		a.Files = append(a.Files, addedFile{f.Path, f.Group, f.Why})
	}
	for _, d := range p.Directories {
		a.Directories = append(a.Directories, addedFolder{d.Path, d.Why, uint64(d.Files), d.Bytes})
	}
	a.Uncovered, a.Warnings = append([]string{}, p.Uncovered...), append([]string{}, p.Warnings...)
	a.Entries, a.Bytes, a.Record = uint64(p.Entries), p.Bytes, p.Record
	if live != nil {
		list := func(l []string) []string { return append([]string{}, l...) }
		a.Running = &addedRunning{uint64(live.Processes), list(live.Code), list(live.Opened), list(live.Written)}
	}
	return a
}

// printAddition shows a proposal that is not written.
func (t *terminal) printAddition(a *addition, p *closure.Proposal) error {
	if t.json {
		return t.writeJSON(a)
	}
	fmt.Fprintf(t.out, "%s:\n\n%s\n", a.Source, cleanText([]byte(a.Declaration)))
	t.printSize(a)
	if p.Cut { // the file has not all of it
		for _, s := range append(p.Uncovered, p.Warnings...) {
			t.tell("  ", s, 4)
		}
	}
	if d := a.Declared; d != nil {
		t.tell("", fmt.Sprintf("%s is declared already, as %s in %s", a.Unit, d.App, d.Source), 2)
		for _, s := range d.Uncovered {
			t.tell("  ", "not covered by it: "+s, 4)
		}
	}
	fmt.Fprintln(t.out, "nothing was written (--dry-run)")
	return nil
}

// printSize says how large the application is.
func (t *terminal) printSize(a *addition) {
	fmt.Fprintf(t.out, "%s and links, %d MiB\n", count(int(a.Entries), "file"), (a.Bytes+1<<20-1)>>20)
}

// writeAddition writes a declaration, after asking.
func (t *terminal) writeAddition(a *addition, full string, u *unitFlags) error {
	if !t.json {
		if err := t.review(a.Source, []byte(a.Declaration), u.yes); err != nil {
			return err
		}
		t.printSize(a)
	}
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return writeFailed(err)
	}
	if err := t.writeOutput(full, []byte(a.Declaration)); err != nil {
		return writeFailed(err)
	}
	if b, err := unitfile.Read(u.root, a.Unit); err == nil && !bytes.Contains(b, []byte(" measure --app "+a.App+"\n")) {
		fmt.Fprintf(t.err, "agentctl: note: the drop-in of %s measures another application: `%s` changes that\n", a.Unit, u.next("enable", a.Unit))
	}
	if a.Written = true; t.json {
		return t.writeJSON(a)
	}
	fmt.Fprintf(t.out, "declared %s; `%s` has it measured before each start\n", a.App, u.next("enable", a.Unit))
	return nil
}

// appName returns the usual name of the application of a unit: letters, digits and -_. of it.
func appName(unit string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, strings.TrimSuffix(unit, ".service"))
	return strings.TrimLeft(strings.TrimRight(name, "-"), "-.")
}
