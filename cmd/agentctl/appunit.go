// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/unitfile"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/pcr"
)

const enableUsage = `Usage: agentctl app enable UNIT [--app NAME] [--credential NAME]... [--yes]
                            [--ima] [--root DIR]

Measure an application before each start of its unit, and let the unit ask for
evidence. The command shows a drop-in for systemd, and writes it if you agree:

  - the unit starts after agentd-measured.target, if that can be reached, and after
    agentd-gate.service, if the application asks for the gate
  - its processes get the group agentd-clients, which may use the client socket
  - it is measured as the last step before its program starts; if that fails, it
    does not start
  - its start may take longer (TimeoutStartSec=), by the time that reading its files
    takes at 16 MiB/s; a unit whose start has no limit keeps it so
  - with --credential, systemd gets a secret of "agentctl secret put" from the agent
    (LoadCredential=), for the program to read as $CREDENTIALS_DIRECTORY/NAME; the unit
    does not start without it

The application must be declared: ` + "`agentctl app add UNIT`" + ` does that. The command
first makes the agent read the declarations and measure the application once. If that
fails, nothing is written, since the unit would not start either. Enable the unit again
when the application has become much larger: credentials of before stay.

  --app NAME          application of the unit (default: the one that declares it)
  --credential NAME   load this secret too; once for each
  --ima               say which of the application's files the running kernel measures by
                      itself (IMA); also print a policy of IMA for what all declared
                      applications read
  --yes               write without asking
  --root DIR          work on the folder of a machine that is being built; no agent
                      measures then, and the size is that of the files in the folder

Examples:
  agentctl app enable billing.service
  agentctl app enable billing.service --credential db-password --credential tls.key
  agentctl app enable billing.service --yes --ima
  agentctl app enable billing.service --yes --root ./image
`

const disableUsage = `Usage: agentctl app disable UNIT [--root DIR]

Remove the drop-in that "agentctl app enable" wrote. The declaration stays.

  --root DIR    work on the folder of a machine that is being built

Examples:
  agentctl app disable billing.service
`

const appShowUsage = `Usage: agentctl app show NAME [--json]

Show one application: what the agent knows of it, its declaration, and its drop-in.

Examples:
  agentctl app show billing
`

// unitFlags are the flags of the commands that write files.
type unitFlags struct {
	app, root string
	yes       bool
	dryRun    bool // of add
	running   bool // of add
	ima       bool // of enable
	tellIMA   func(declared map[string]*declaration.Declaration, d *declaration.Declaration) error
	load      []string                                                             // credentials
	size      func(*declaration.Declaration) (bytes uint64, known bool, err error) // of an application
}

// next returns the command line of a verb of "app" for the same machine.
func (u *unitFlags) next(verb, unit string) string {
	line := "agentctl app " + verb + " " + unit
	if filepath.Clean(u.root) != "/" {
		line += " --root " + clean(u.root)
	}
	return line
}

// unitCommands returns the commands under "app" that work on files.
func unitCommands(t *terminal, s *sockets) []*cobra.Command {
	var u unitFlags
	onUnit := func(use, long string, run func(unit string, u *unitFlags) error) *cobra.Command {
		c := command(use, long, arguments("UNIT"), func(c *cobra.Command, args []string) error {
			u.size = func(d *declaration.Declaration) (uint64, bool, error) {
				if filepath.Clean(u.root) != "/" {
					return t.sizeBelow(c.Context(), u.root, d)
				}
				bytes, err := t.measureOnce(c.Context(), s.adminSocket(), d)
				return bytes, err == nil, err
			}
			u.tellIMA = func(declared map[string]*declaration.Declaration, d *declaration.Declaration) error {
				return t.tellIMA(c.Context(), u.root, declared, d)
			}
			return run(args[0], &u)
		})
		c.Flags().StringVar(&u.root, "root", "/", "")
		return c
	}
	enable := onUnit("enable", enableUsage, t.enableUnit)
	var add *cobra.Command
	add = onUnit("add", addUsage, func(unit string, u *unitFlags) error { return t.addApp(add.Context(), unit, u) })
	for _, c := range []*cobra.Command{enable, add} {
		c.Flags().StringVar(&u.app, "app", "", "")
		c.Flags().BoolVar(&u.yes, "yes", false, "")
	}
	enable.Flags().StringArrayVar(&u.load, "credential", nil, "")
	add.Flags().BoolVar(&u.dryRun, "dry-run", false, "")
	add.Flags().BoolVar(&u.running, "running", false, "")
	enable.Flags().BoolVar(&u.ima, "ima", false, "")
	show := command("show", appShowUsage, arguments("NAME"), func(c *cobra.Command, args []string) error {
		return t.showApp(c, s, args[0])
	})
	return []*cobra.Command{enable, onUnit("disable", disableUsage, t.disableUnit), add, show}
}

func (t *terminal) enableUnit(unit string, u *unitFlags) error {
	service, err := unitfile.Load(u.root, unit)
	if err != nil {
		return misuse(err)
	}
	declared, err := declarations(u.root)
	if err != nil {
		return misuse(err)
	}
	unit = service.Name // and not an alias, which has no processes and no drop-ins of its own
	d, err := declaredFor(declared, unit, u.app)
	if err != nil {
		return misuse(err).withHint(fmt.Sprintf("`%s` writes a declaration", u.next("add", unit)))
	}
	user, dynamic, err := service.RunsAs()
	if err != nil {
		return misuse(err)
	}
	if d.User != user || d.Dynamic != dynamic {
		fmt.Fprintf(t.err, "agentctl: note: %s declares the %s %q, the unit runs as the %s %q; unless both have the same uid, the agent will not recognise the unit's processes as %s\n",
			d.File, userKind(d.Dynamic), clean(d.User), userKind(dynamic), clean(user), d.Name)
	}
	for _, apart := range apartFrom(declared, unit) {
		fmt.Fprintf(t.err, "agentctl: note: %s is declared by itself, as %s: `%s` has it measured before its start\n", apart.Unit, apart.Name, u.next("enable", apart.Unit))
	}
	load, err := u.credentials(service)
	if err != nil {
		return misuse(err)
	}
	bytes, known, err := u.size(d)
	if err != nil {
		return err
	}
	var start time.Duration
	if known {
		start = service.StartTimeout(bytes)
	}
	content := unitfile.DropIn(d.Name, start, d.Gate != declaration.NoGate, load...)
	if err := t.review(unitfile.DropInPath(unit), content, u.yes); err != nil {
		return err
	}
	if err := unitfile.Write(u.root, unit, content); err != nil {
		return writeFailed(err)
	}
	fmt.Fprintf(t.out, "%s is measured as %s from its next start on\n", unit, d.Name)
	if u.ima {
		err = u.tellIMA(declared, d)
	}
	return errors.Join(t.reloadUnits(u.root), err)
}

// credentials returns the names of the credentials that the unit is to load: those of before, and
// those that were given.
func (u *unitFlags) credentials(s *unitfile.Service) ([]string, error) {
	before, err := unitfile.Read(u.root, s.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := unitfile.Credentials(before)
	for _, name := range u.load {
		if err := unitname.CheckCredential(name); err != nil {
			return nil, fmt.Errorf("--credential: %w", err)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if most := unitfile.MostNames; len(s.Name)+len(name) > most {
			return nil, fmt.Errorf("--credential: %s and %s have %d characters together, and systemd can ask for at most %d", s.Name, name, len(s.Name)+len(name), most)
		}
		if slices.Contains(s.Fallbacks, name) {
			return nil, fmt.Errorf("%s sets the credential %s itself (SetCredential=): systemd would start it with that value whenever the socket of the agent is missing; remove that line first", s.Name, name)
		}
	}
	return names, nil
}

func (t *terminal) disableUnit(unit string, u *unitFlags) error {
	unit = unitfile.Complete(unit)
	if err := unitfile.CheckName(unit); err != nil {
		return misuse(err)
	}
	if service, err := unitfile.Load(u.root, unit); err == nil { // a unit that is gone is disabled too
		unit = service.Name
	}
	err := unitfile.Remove(u.root, unit)
	if errors.Is(err, fs.ErrNotExist) {
		return misuse(fmt.Errorf("%s is not enabled: %w", unit, err))
	}
	if err != nil {
		return writeFailed(err)
	}
	fmt.Fprintf(t.out, "removed %s\n", unitfile.DropInPath(unit))
	return t.reloadUnits(u.root)
}

func (t *terminal) showApp(c *cobra.Command, s *sockets, name string) error {
	all, err := soon(c.Context(), s.adminSocket().Apps)
	if err != nil {
		return failed(err)
	}
	for i := range all {
		if a := &all[i]; a.Name == name {
			if t.json {
				return t.writeJSON(a)
			}
			t.printApp(a)
			if b, err := os.ReadFile(a.Source); err == nil {
				fmt.Fprintf(t.out, "\n%s:\n%s", a.Source, cleanText(b))
			}
			switch b, err := unitfile.Read("/", a.Unit); {
			case err == nil:
				fmt.Fprintf(t.out, "\n%s:\n%s", unitfile.DropInPath(a.Unit), cleanText(b))
			case errors.Is(err, fs.ErrNotExist):
				fmt.Fprintf(t.out, "\nnot measured at each start: `agentctl app enable %s` changes that\n", cleanLine(a.Unit))
			default:
				fmt.Fprintf(t.out, "\ndrop-in: %s\n", cleanLine(err.Error()))
			}
			return nil
		}
	}
	return misuse(fmt.Errorf("no application %q is declared", name)).withHint("`agentctl app list` shows the declared ones")
}

// appsFolder is the folder in which administrators declare applications.
const appsFolder = "/etc/agentd/apps.d"

// configBelow returns the configuration of the machine below root. A link in an image leads as it does
// when root is "/", and never to a file of this machine.
func configBelow(root string) (config.Config, error) {
	at, err := unitfile.Within(root, config.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return config.Config{}, err
	}
	c, _, err := config.LoadFromImage(at, config.Default())
	return c, err
}

// declarations returns the declarations in the files below root, without those that are
// wrong: the agent reports them.
func declarations(root string) (map[string]*declaration.Declaration, error) {
	c, err := configBelow(root)
	if err != nil {
		return nil, err
	}
	out := map[string]*declaration.Declaration{}
	for _, dir := range c.Measurement.ApplicationFolders {
		var entries []fs.DirEntry
		full, err := unitfile.Within(root, dir)
		if err == nil {
			entries, err = os.ReadDir(full)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name, ok := strings.CutSuffix(e.Name(), ".toml")
			if !ok {
				continue
			}
			delete(out, name) // a later folder replaces or masks, well-formed or not
			file := filepath.Join(dir, e.Name())
			at, err := unitfile.Within(root, file)
			if err != nil {
				continue
			}
			b, err := durable.ReadRegular(at, declaration.MaxDeclaration)
			if err != nil {
				continue
			}
			if d, err := declaration.Parse(name, file, b, declaration.AnyUser()); err == nil && !d.IsContainer() {
				out[name] = d
			}
		}
	}
	return out, nil
}

// sameUnit reports whether a declaration for declared is one for unit itself, and not for
// the template of it.
func sameUnit(declared, unit string) bool { return declared == unit }

// declarers returns the names of the applications with a unit that fits.
func declarers(declared map[string]*declaration.Declaration, unit string, fits func(declared, unit string) bool) []string {
	var names []string
	for n, d := range declared {
		if fits(d.Unit, unit) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// declaredFor returns the application called name, or the only one that declares unit. As
// for the agent, a declaration of an instance goes before that of its template: one by the name of
// the template's application would measure files that the processes of the instance do not count for.
func declaredFor(declared map[string]*declaration.Declaration, unit, name string) (*declaration.Declaration, error) {
	names := declarers(declared, unit, sameUnit)
	if name != "" {
		d := declared[name]
		switch {
		case d == nil:
			return nil, fmt.Errorf("no application %q is declared", name)
		case !evidence.InUnit(d.Unit, unit):
			return nil, fmt.Errorf("%s declares unit %s, not %s", d.File, d.Unit, unit)
		case d.Unit == unit:
			return d, nil
		}
		for _, n := range names {
			if x := declared[n]; x.User == d.User || slices.ContainsFunc(x.Users, func(u pcr.AppUser) bool { return u.User == d.User }) {
				return nil, fmt.Errorf("%s declares %s, and so its processes count for %s, not for %s: use --app %s, or remove that declaration", x.File, unit, n, name, n)
			}
		}
		return d, nil
	}
	if len(names) == 0 {
		names = declarers(declared, unit, evidence.InUnit)
	}
	switch len(names) {
	case 0:
		return nil, fmt.Errorf("no application declares %s", unit)
	case 1:
		return declared[names[0]], nil
	}
	return nil, fmt.Errorf("%s is declared by %s: choose one with --app", unit, strings.Join(names, " and "))
}

// apartFrom returns the declarations of instances of a template: the agent counts their processes
// for those, and the template's drop-in measures another application.
func apartFrom(declared map[string]*declaration.Declaration, template string) (apart []*declaration.Declaration) {
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if d := declared[name]; d.Unit != template && evidence.InUnit(template, d.Unit) {
			apart = append(apart, d)
		}
	}
	return apart
}

// review shows what is about to be written, and asks unless --yes was given.
func (t *terminal) review(path string, content []byte, yes bool) error {
	fmt.Fprintf(t.out, "%s:\n\n%s\n", path, cleanText(content))
	if yes {
		return nil
	}
	f, ok := t.in.(*os.File)
	if !ok || !isTerminal(f) {
		return misuse(errors.New("nothing was written: standard input is not a terminal, so there is no answer")).withHint("--yes writes without asking")
	}
	fmt.Fprint(t.out, "Write this file? [y/N] ")
	answer, _ := bufio.NewReader(t.in).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return misuse(errors.New("nothing was written"))
	}
	return nil
}

// cleanText returns text that a terminal can show, line by line.
func cleanText(b []byte) string {
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		out.WriteString(cleanLine(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return out.String()
}

func writeFailed(err error) *exitError {
	if errors.Is(err, fs.ErrPermission) {
		return (&exitError{code: exitNotPermitted, err: err}).withHint("run it as root")
	}
	if x, ok := errors.AsType[*exitError](err); ok {
		return x
	}
	return misuse(err)
}

// reloadUnits makes systemd read its units again, if root is the running system.
func (t *terminal) reloadUnits(root string) error {
	if filepath.Clean(root) != "/" {
		return nil
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil
	}
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		return misuse(fmt.Errorf("the file is in place, but systemd did not read it: %w: %s", err, strings.TrimSpace(string(out)))).
			withHint("run `systemctl daemon-reload`")
	}
	return nil
}
