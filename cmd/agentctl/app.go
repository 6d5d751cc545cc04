// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
)

const measureUsage = `Usage: agentctl measure --app NAME
       agentctl measure --wait-all

Measure a declared application now, and return when the log has the result. Use it in
the unit of the application, before its program starts:

  [Service]
  ExecStartPre=+/usr/bin/agentctl --admin /run/agentd/admin.sock measure --app billing

An application that cannot be measured is an error, so that the unit does not start.
The command needs the admin socket, which is for root.

  --app NAME    the application to measure
  --wait-all    wait for all applications
  --json        the result as JSON

With --wait-all, wait until the agent is ready and every declared application is
measured, and say now and then which is late. If the agent tried an application and
could not measure it, the waiting for the others ends with an error that names it and
says why. agentd-measured.service does this at boot.

Examples:
  agentctl measure --app billing
  agentctl measure --wait-all
`

func measureCommand(t *terminal, s *sockets) *cobra.Command {
	var name string
	var all bool
	c := command("measure", measureUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if all && name != "" {
			return misuse(errors.New("--app and --wait-all cannot be combined: give one of the two"))
		}
		if all {
			return t.waitMeasured(c.Context(), s)
		}
		if name == "" {
			return misuse(errors.New("--app is missing")).withHint("`agentctl app list` shows the names")
		}
		ended := t.tellReading(c.Context(), s, name, tellPause)
		a, err := s.adminSocket().Measure(c.Context(), name)
		ended()
		return present(t, a, err, func() {
			t.tell("", fmt.Sprintf("%s measured: %s, %d bytes, digest %s", a.Name, count(int(a.Files), "file"), a.Bytes, digestOf(a)), 2)
			if a.Interpreter != "" {
				fmt.Fprintf(t.err, "agentctl: note: %s is interpreter only: %s is measured, and what it runs is not\n", cleanLine(a.Name), cleanLine(a.Interpreter))
			}
		})
	})
	c.Flags().StringVar(&name, "app", "", "")
	c.Flags().BoolVar(&all, "wait-all", false, "")
	return c
}

const appUsage = `Usage: agentctl app COMMAND

Declare applications, and have them measured at each start.

  list            the declared applications, with the digests that policies name
  show NAME       one application, with its declaration and drop-in
  reload          read the declarations again, and report those that are wrong
  add UNIT        write a declaration for what a unit starts
  enable UNIT     measure the application before each start of its unit
  disable UNIT    undo enable
  diff A B        which files changed between two measurements
  changes         which applications an upgrade changed

All but diff are for root: list, show, reload, changes and enable ask the agent over
the admin socket; add, enable and disable write files below /etc.

Examples:
  agentctl app list
  agentctl app add billing.service && agentctl app enable billing.service
  agentctl app list --json | jq -r '.apps[] | select(.state != "measured") | .reason'
`

const appListUsage = `Usage: agentctl app list [--json]

List the declared applications: state, the digest that policies name, files, and since
when they are covered. If an application is not measured, the reason is shown.

Examples:
  agentctl app list
`

const appReloadUsage = `Usage: agentctl app reload [--json]

Make the agent read the declarations again, and measure what changed. Declarations
that are wrong are reported, and the others come into force.

Exit codes: 1 a declaration was refused.

Examples:
  agentctl app reload
`

func appCommand(t *terminal, s *sockets) *cobra.Command {
	list := command("list", appListUsage, arguments(), func(c *cobra.Command, _ []string) error {
		all, err := soon(c.Context(), s.adminSocket().Apps)
		return present(t, api.Apps{Apps: all}, err, func() {
			for i := range all {
				t.printApp(&all[i])
			}
			if len(all) == 0 {
				fmt.Fprintln(t.out, "no applications are declared")
			}
		})
	})
	reload := command("reload", appReloadUsage, arguments(), func(c *cobra.Command, _ []string) error {
		r, err := s.adminSocket().Reload(c.Context())
		err = present(t, r, err, func() { fmt.Fprintf(t.out, "%d declared, %d measured\n", r.Apps.Declared, r.Apps.Measured) })
		if err != nil {
			return err
		}
		for _, name := range r.Measuring {
			fmt.Fprintf(t.err, "agentctl: %s is still being measured: `agentctl app list` shows how far that is\n", cleanLine(name))
		}
		for _, e := range r.Errors {
			fmt.Fprintf(t.err, "agentctl: %s\n", cleanLine(e.Reason))
		}
		if len(r.Errors) > 0 {
			return misuse(fmt.Errorf("refused: %s; the others are in force", count(len(r.Errors), "declaration")))
		}
		return nil
	})
	return group(t, "app", appUsage, append(unitCommands(t, s), list, reload, appDiffCommand(t, s), appChangesCommand(t, s))...)
}

func (t *terminal) printApp(a *api.App) {
	n := &node{text: cleanLine(fmt.Sprintf("%s: %s", a.Name, a.State))}
	if a.Interpreter != "" {
		n.text += ", interpreter only"
	}
	if a.Digest != nil {
		n.add("digest %s", a.Digest)
		n.add("%s, %d bytes", count(int(a.Files), "file"), a.Bytes)
	}
	if c := a.Covered; c != nil && c.Carried > 0 {
		n.add("covered since record %d, over %s in which nothing can have changed", c.Record, count(int(c.Carried), "interruption"))
	} else if c != nil {
		n.add("covered since record %d", c.Record)
	}
	if c := a.Covered; c != nil && c.EndsWithAgent != "" {
		n.add("a restart of the agent would end that: %s", c.EndsWithAgent)
	}
	if a.Interpreter != "" {
		n.add("only the interpreter %s is measured: what it runs is not covered until the declaration lists it", cleanLine(a.Interpreter))
	}
	if a.Reason != "" {
		n.add("%s", a.Reason)
	}
	if r := a.Reading; r != nil && (r.Stuck || r.Since > 0) { // not each short look
		n.add("being read: %s", readingText(a.Reading))
	}
	if a.Unit != "" {
		n.add("unit %q, %s %q", a.Unit, userKind(a.DynamicUser), a.User)
	}
	if a.Source != "" {
		n.add("declared in %s", a.Source)
	}
	n.draw(t)
}

// userKind names a user whose uid lasts, or one to whom systemd gives a uid at each start.
func userKind(dynamic bool) string {
	if dynamic {
		return "dynamic user"
	}
	return "user"
}

func digestOf(a *api.App) string {
	if a.Digest == nil {
		return "none"
	}
	return a.Digest.String()
}
