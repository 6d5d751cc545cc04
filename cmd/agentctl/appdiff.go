// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
)

const appDiffUsage = `Usage: agentctl app diff A B [--app NAME] [--in FILE]...
       agentctl app diff NAME

Show which files of an application changed between two measurements. A and B are
digests, of which the first 8 digits are enough, or files of evidence, which mean the
last measurement in their log. With the name of an application alone, compare its last
two versions in the agent's log. Nothing in evidence is verified here.

  --app NAME    the application, if a file has several
  --in FILE     evidence in whose log to look for digests (default: the agent's log)
  --json        every file, with mode, size and digest

Examples:
  agentctl app diff billing
  agentctl app diff 49ac8a3f 7d1e02b5
  agentctl app diff --app billing golden.json today.json
`

func appDiffCommand(t *terminal, s *sockets) *cobra.Command {
	var app string
	var in []string
	c := command("diff", appDiffUsage, oneOrTwo, func(c *cobra.Command, args []string) error {
		files := slices.Clone(in)
		for _, a := range args {
			if info, err := os.Stat(a); err == nil && info.Mode().IsRegular() && len(args) == 2 && !slices.Contains(files, a) {
				files = append(files, a)
			}
		}
		all, err := t.versionsIn(c.Context(), s, files)
		if err != nil {
			return err
		}
		before, after, err := pair(all, args, app)
		if err != nil {
			return misuse(err)
		}
		return t.showDifference(before, after)
	})
	c.Flags().StringVar(&app, "app", "", "")
	c.Flags().StringArrayVar(&in, "in", nil, "")
	return c
}

func oneOrTwo(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return misuse(errors.New("name an application, or two of its digests or files of evidence")).withHint(helpHint(c))
	}
	if len(args) == 1 {
		return nil
	}
	return arguments("A", "B")(c, args)
}

// pair returns the two versions that are compared.
func pair(all []measuredApp, args []string, app string) (before, after *measuredApp, err error) {
	if len(args) == 2 {
		if before, err = pickVersion(all, args[0], app); err == nil {
			after, err = pickVersion(all, args[1], app)
		}
		if err == nil && before.App != after.App {
			err = fmt.Errorf("these are two applications, %q and %q", before.App, after.App)
		}
		return before, after, err
	}
	for i := range all {
		if v := &all[i]; v.App == args[0] && (after == nil || v.Digest != after.Digest) {
			before, after = after, v
		}
	}
	switch {
	case after == nil:
		return nil, nil, fmt.Errorf("no record of an application %q", args[0])
	case before == nil:
		return nil, nil, fmt.Errorf("%q: %w, %s", args[0], errNoVersions, after)
	}
	return before, after, nil
}

func (t *terminal) showDifference(before, after *measuredApp) error {
	d := difference{App: after.App, Before: sideOf(before), After: sideOf(after), Files: changes(before.Manifest, after.Manifest)}
	if t.json {
		return t.writeJSON(d)
	}
	n := &node{text: cleanLine(fmt.Sprintf("%s: %s", after.App, changedFiles(d.Files)))}
	n.add("from %s", before)
	n.add("to   %s", after)
	if before.Declaration != after.Declaration {
		n.add("the declaration changed too: %s, was %s", after.Declaration, before.Declaration)
	}
	n.addChanges(d.Files)
	n.draw(t)
	return nil
}

// changedFiles says how many files changed.
func changedFiles(all []fileChange) string {
	if len(all) == 0 {
		return "no file changed"
	}
	return count(len(all), "file") + " changed"
}

const appChangesUsage = `Usage: agentctl app changes [--note FILE] [--if-running]

Say which applications changed since the last time, and what a policy must list now.
The packages run it after each upgrade by apt and dnf. The command waits until the
agent has measured what the upgrade changed, at most 30 s. If nothing changed and all
is measured, it prints nothing.

  --note FILE     keep in FILE how far the log was read, for the next time (default:
                  compare with the first measurement since boot)
  --if-running    end with 0 and without a word if the agent is stopped or does not
                  answer; a stopped agent is not started

Examples:
  agentctl app changes
  agentctl app changes --note /run/agentd-changes --if-running
`

// settlePatience is how long app changes waits for measurements.
const settlePatience = 30 * time.Second

func appChangesCommand(t *terminal, s *sockets) *cobra.Command {
	var note string
	var ifRunning bool
	c := command("changes", appChangesUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if ifRunning && !s.running() {
			return nil
		}
		err := t.showChanges(c.Context(), s, note)
		if x, ok := errors.AsType[*exitError](err); ok && x.code == exitUnavailable && ifRunning {
			return nil
		}
		return err
	})
	c.Flags().StringVar(&note, "note", "", "")
	c.Flags().BoolVar(&ifRunning, "if-running", false, "")
	return c
}

func (t *terminal) showChanges(ctx context.Context, s *sockets, note string) error {
	apps, err := settledApps(ctx, s)
	if err != nil {
		return failed(err)
	}
	all, err := t.versionsIn(ctx, s, nil)
	if err != nil {
		return err
	}
	out := []difference{}
	for _, d := range changedSince(all, readNote(note, all)) {
		out = append(out, difference{App: d[1].App, Before: sideOf(d[0]), After: sideOf(d[1]), Files: changes(d[0].Manifest, d[1].Manifest)})
	}
	if note != "" && len(all) > 0 {
		if err := durable.WriteFile(note, fmt.Appendln(nil, all[len(all)-1].record), 0o600); err != nil {
			return writeFailed(err)
		}
	}
	if t.json {
		return t.writeJSON(changedApps{out})
	}
	t.printChanges(out, apps)
	return nil
}

// changedApps is what app changes prints as JSON.
type changedApps struct {
	Changed []difference `json:"changed"` // in the order of their records
}

// printChanges says what changed, and what follows for policies.
func (t *terminal) printChanges(all []difference, apps []api.App) {
	for _, d := range all {
		n := &node{text: cleanLine(fmt.Sprintf("%s: %s", d.App, changedFiles(d.Files)))}
		n.addChanges(d.Files)
		n.add("a policy must list its digest now:").addCommand(fmt.Sprintf("agentctl policy add-digest --policy FILE --app %s %s", quoteWord(d.App), d.After.Digest))
		if d.Before.Declaration != d.After.Declaration {
			n.add("and its declaration, if it lists those:").addCommand("--declaration " + d.After.Declaration.String())
		}
		n.draw(t)
	}
	for _, a := range apps {
		if a.State != api.AppMeasured {
			t.tell("", fmt.Sprintf("%s: %s: %s", a.Name, a.State, a.Reason), 2)
		}
	}
	if len(all) > 0 {
		t.tell("", "The log keeps the old digests until the next boot: list both until then, and restart the units.", 2)
	}
}

// settledApps returns the applications when none is being measured, at the latest after
// settlePatience.
func settledApps(ctx context.Context, s *sockets) ([]api.App, error) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	all, err := soon(ctx, s.adminSocket().Apps)
	if err != nil {
		return nil, err
	}
	for i := range all {
		// An app that cannot be measured says so itself, below.
		if a, err := s.adminSocket().Measure(ctx, all[i].Name); err == nil {
			all[i] = *a
		} else {
			all[i].State, all[i].Reason = api.AppUnmeasured, err.Error()
		}
	}
	return all, nil
}

// readNote returns up to which record the log was read before; 0 if nothing is noted, or if the
// log is of another boot and shorter.
func readNote(file string, all []measuredApp) uint64 {
	if file == "" || len(all) == 0 {
		return 0
	}
	b, err := durable.ReadFile(file, 32)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n > all[len(all)-1].record {
		return 0
	}
	return n
}

// changedSince returns for each application that changed after a record the version of then, or
// its first one, and the current one.
func changedSince(all []measuredApp, record uint64) [][2]*measuredApp {
	before, now := map[string]*measuredApp{}, current(all)
	for i := range all {
		if v := &all[i]; before[v.App] == nil || v.record <= record {
			before[v.App] = v
		}
	}
	var out [][2]*measuredApp
	for i := range all {
		v := &all[i]
		if b := before[v.App]; now[v.App] == v && b.Digest != v.Digest {
			out = append(out, [2]*measuredApp{b, v})
		}
	}
	return out
}
