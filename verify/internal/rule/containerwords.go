// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

func (r *ContainerRules) explain(_ *Policy, w *Words) {
	w.on(check.OnHistory, "containers ([[container]], unlisted_containers)")
	for i := range r.Containers {
		c := &r.Containers[i]
		w.demandIf(c.required(), "The log names a container of the application %q.", c.Name)
		w.demandIf(len(c.Roots) > 0, "The log records for containers of %q only %s.", c.Name, onlyOf(len(c.Roots), "root file system"))
		w.demandIf(c.ReadOnly, "Containers of %q cannot write to their root file system.", c.Name)
		w.demandIf(len(c.Images) > 0, "The engine names for containers of %q only %s.", c.Name, onlyOf(len(c.Images), "image"))
		w.demandIf(c.Engine != "", "Containers of %q run under %s.", c.Name, c.Engine)
		w.demandIf(len(c.Declarations) > 0, "The log records for containers of %q only %s.", c.Name, onlyOf(len(c.Declarations), "declaration"))
		w.demandIf(c.Args != nil, "Containers of %q run the listed program with the listed arguments.", c.Name)
		w.demandIf(c.UID != nil, "Containers of %q run as the user that is listed.", c.Name)
		w.demandIf(len(c.Environment) > 0, "Containers of %q have no environment variables but those that are listed.", c.Name)
		w.demandIf(len(c.EnvironmentHashes) > 0, "Containers of %q have a listed environment, with its values.", c.Name)
		w.demand("Containers of %q have no devices and namespaces of the machine but those that are listed, and no mounts but those and the engine's own.", c.Name)
		w.demandIf(len(c.SharedNamespaces) == 0, "Containers of %q share no namespaces with other processes when they start.", c.Name)
		w.dangerIf(len(c.SharedNamespaces) > 0, "container.shared_namespaces: other processes may be in the namespaces %s of containers of %q.", quotedList(c.SharedNamespaces), c.Name)
		w.demandIf(len(c.Capabilities) > 0, "Containers of %q have no capabilities but those that are listed.", c.Name)
		w.demandIf(len(c.Seccomp) > 0, "Containers of %q have a listed seccomp filter.", c.Name)
		w.dangerIf(c.AllDevices, "container.all_devices: containers of %q may use every device of the machine, and so read and change everything on it.", c.Name)
		w.dangerIf(len(c.Mounts) > 0, "container.mounts: what is mounted into containers of %q at %s is not measured.", c.Name, quotedList(c.Mounts))
		w.openIf(len(c.Roots) == 0, "Which files a container of %q has: only the engine says which image it is (container.roots).", c.Name)
		w.openIf(c.Args == nil, "Which program of its image a container of %q runs (container.args).", c.Name)
		w.openIf(len(c.Capabilities) == 0, "Which capabilities a container of %q has, with which it may get out of it (container.capabilities).", c.Name)
		w.openIf(len(c.EnvironmentHashes) == 0, "Which values the environment of a container of %q has (container.environment_hashes).", c.Name)
		w.openIf(!c.ReadOnly, "What a container of %q writes to its root file system after it started, and then runs (container.read_only).", c.Name)
	}
	switch {
	case r.UnlistedContainers == Refuse:
		w.demand("Each container in the log is of an application that a [[container]] lists.")
	case len(r.Containers) == 0:
		w.open("Which containers run: no [[container]] is listed.")
	default:
		w.open("Which containers run in addition to those that are listed (unlisted_containers = \"refuse\" asks).")
	}
}

func (*ContainerRules) draft(g *Golden, d *Draft) {
	if g.LogState != LogRead || len(g.Log.Containers) == 0 {
		return
	}
	last := make(map[string]*replay.Container)
	var names []string
	for i := range g.Log.Containers {
		c := &g.Log.Containers[i]
		if last[c.App] == nil {
			names = append(names, c.App)
		}
		last[c.App] = c
	}
	if last[""] == nil {
		d.root.offer("Containers in addition to those that are listed below are refused.", "unlisted_containers = \"refuse\"")
	} else {
		d.root.danger("unlisted_containers = \"refuse\"", "the log names containers of no declared application, which this policy cannot list. With this rule it refuses them.")
	}
	for _, name := range names {
		if name != "" {
			draftContainer(last[name], d)
		}
	}
}

// draftContainer writes the rule of a container, as it was started last.
func draftContainer(c *replay.Container, d *Draft) {
	d.tables.offer("As it was started last. \"agentctl policy image-reference\" computes the digests from the image.", "[[container]]\nname = %s\nengine = %q\nroots = [%q]", quoted(c.App), c.Engine, c.Root.Digest)
	if i := c.Image.Config; i != nil {
		d.tables.line("images = [%q]", i)
	}
	var args []string
	text := true
	for _, a := range c.Process.Args {
		args = append(args, strconv.QuoteToASCII(string(a)))
		text = text && !strings.ContainsFunc(string(a), func(r rune) bool { return r < 0x20 || r > 0x7e })
	}
	d.tables.lineIf(text, "args = [%s]", strings.Join(args, ", "))
	d.tables.line("uid = %d", c.Process.UID)
	list := func(key string, values []string) {
		d.tables.lineIf(len(values) > 0, "%s = [%s]", key, quotedList(values))
	}
	list("environment", c.Process.Environment)
	list("capabilities", c.Process.Capabilities)
	if s := c.Process.Seccomp; s != nil {
		d.tables.line("seccomp = [%q]", s)
	}
	d.tables.lineIf(c.Root.ReadOnly, "read_only = true")
	var mounts, devices, host []string
	for i := range c.Mounts {
		if m := c.Mounts[i].Destination; !isOwnMount(c, &c.Mounts[i]) && !slices.Contains(mounts, m) {
			mounts = append(mounts, m)
		}
	}
	for _, x := range c.Devices {
		if !slices.Contains(devices, x.Path) {
			devices = append(devices, x.Path)
		}
	}
	for _, kind := range judgedKinds {
		if kind != "mnt" && c.Host(kind) { // no rule accepts the machine's mounts
			host = append(host, kind)
		}
	}
	if len(mounts) > 0 {
		d.tables.danger("mounts = ["+quotedList(mounts)+"]", "what is mounted here is not measured, so a program in it goes unnoticed.")
	}
	list("devices", devices)
	if len(host) > 0 && !slices.Equal(host, []string{"cgroup"}) {
		d.tables.danger("host_namespaces = ["+quotedList(host)+"]", "it shares these with the machine.")
	}
	if len(c.Shared) > 0 {
		d.tables.danger("shared_namespaces = ["+quotedList(c.Shared)+"]", "processes of others are in these namespaces of it.")
	}
	if c.AllDevices {
		d.tables.danger("all_devices = true", "it may use every device, and so read and change everything on the machine.")
	}
	d.tables.line("")
}
