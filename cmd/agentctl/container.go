// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/engines"
	"github.com/cvm-agentd/agentd/internal/text"
)

// engineState is how one engine is set up.
type engineState struct {
	Engine string `json:"engine"`          // name of the engine
	File   string `json:"file"`            // file that says so
	State  string `json:"state"`           // "enabled", "disabled", "partly" or "unknown"
	Reason string `json:"reason,omitzero"` // why it is unknown
}

// containerList is what container list shows.
type containerList struct {
	Engines    []engineState   `json:"engines"`         // each engine that can be set up
	Containers []api.Container `json:"containers"`      // measured containers that run; empty if the agent does not say
	Agent      string          `json:"agent,omitempty"` // why the agent does not say
}

// engineChange is what container enable and disable changed.
type engineChange struct {
	Engine  string `json:"engine"`           // name of the engine
	File    string `json:"file"`             // file that is concerned
	Changed bool   `json:"changed"`          // it was written
	Content string `json:"content,omitzero"` // what it has now, or would have; what to add or remove if an administrator has to
	Next    string `json:"next,omitzero"`    // what to do then
}

// engineFlags are the flags of the commands that set an engine up.
type engineFlags struct {
	root, runtime string
	dry           bool
}

func containerCommand(t *terminal, s *sockets) *cobra.Command {
	var f engineFlags
	on := func(use, long string, change func(engines.Engine) (*engines.Change, error)) *cobra.Command {
		c := command(use, long, arguments("ENGINE"), func(_ *cobra.Command, args []string) error {
			e, err := engines.Find(args[0])
			if err != nil {
				return misuse(err)
			}
			return t.setUp(e, use == "enable", &f, change)
		})
		c.Flags().StringVar(&f.root, "root", "/", "")
		c.Flags().BoolVar(&f.dry, "dry-run", false, "")
		return c
	}
	enable := on("enable", containerEnableUsage, func(e engines.Engine) (*engines.Change, error) { return e.Enable(f.root, f.runtime) })
	enable.Flags().StringVar(&f.runtime, "runtime", "runc", "")
	disable := on("disable", containerDisableUsage, func(e engines.Engine) (*engines.Change, error) { return e.Disable(f.root) })
	list := command("list", containerListUsage, arguments(), func(c *cobra.Command, _ []string) error { return t.listContainers(c, s, f.root) })
	list.Flags().StringVar(&f.root, "root", "/", "")
	return group(t, "container", containerUsage, enable, disable, list)
}

// setUp makes a change of an engine, and says what to do then.
func (t *terminal) setUp(e engines.Engine, on bool, f *engineFlags, change func(engines.Engine) (*engines.Change, error)) error {
	c, err := change(e)
	if err != nil {
		return misuse(err).withHint("nothing was written")
	}
	out := engineChange{Engine: e.Name, File: e.File}
	if c == nil {
		return present(t, out, nil, func() { fmt.Fprintf(t.out, "%s: nothing to do\n", e.Name) })
	}
	out.Content, out.Next = string(c.Content), c.Next
	if !f.dry && !c.Manual {
		if err := c.Write(f.root); err != nil {
			return writeFailed(err)
		}
		out.Changed = true
	}
	return present(t, out, nil, func() {
		switch verb := map[bool]string{true: "add to", false: "remove from"}[on]; {
		case c.Manual:
			fmt.Fprintf(t.out, "%s %s:\n\n%s\n%s\n", verb, c.Path, cleanText(c.Content), c.Next)
		case f.dry && c.Content == nil:
			fmt.Fprintf(t.out, "would remove %s\n", c.Path)
		case f.dry:
			fmt.Fprintf(t.out, "%s would be:\n\n%s", c.Path, cleanText(c.Content))
		case c.Content == nil:
			fmt.Fprintf(t.out, "removed %s\n", c.Path)
		default:
			fmt.Fprintf(t.out, "wrote %s\n%s\n", c.Path, c.Next)
		}
	})
}

func (t *terminal) listContainers(c *cobra.Command, s *sockets, root string) error {
	out := containerList{Engines: []engineState{}, Containers: []api.Container{}}
	for _, e := range engines.All() {
		x := engineState{Engine: e.Name, File: e.File, State: "unknown"}
		if state, err := e.State(root); err != nil {
			x.Reason = err.Error()
		} else {
			x.State = string(state)
		}
		out.Engines = append(out.Engines, x)
	}
	if filepath.Clean(root) == "/" {
		if found, err := soon(c.Context(), s.adminSocket().Containers); err != nil {
			out.Agent = err.Error()
		} else {
			out.Containers = found.Containers
		}
	}
	return present(t, out, nil, func() {
		for _, x := range out.Engines {
			fmt.Fprintf(t.out, "%-11s %-9s %s\n", x.Engine, x.State, cleanLine(strings.TrimSpace(x.File+"  "+x.Reason)))
		}
		for i := range out.Containers {
			x := &out.Containers[i]
			app := x.App
			if app == "" {
				app = "(no application)"
			}
			fmt.Fprintf(t.out, "\n%s %s\n  app %s, image %s\n  root %s, %s\n", cleanLine(x.Engine), cleanLine(x.ID), cleanLine(app), cleanLine(orUnknown(x.Image)), rootOf(x), text.Count(x.Files, "file"))
		}
		if out.Agent != "" {
			fmt.Fprintf(t.err, "agentctl: note: the agent does not say which containers it measured: %s\n", cleanLine(out.Agent))
		}
	})
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func rootOf(c *api.Container) string {
	if c.Root == nil {
		return "unknown"
	}
	return c.Root.String()
}
