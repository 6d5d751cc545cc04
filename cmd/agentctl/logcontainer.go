// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// addContainer adds what the log says of a container: the image, the process, and what is not
// covered.
func (n *node) addContainer(c *pcr.ContainerEvent) {
	if i := c.Image; i != (pcr.ContainerImage{}) {
		n.add("image %q by the word of the engine, configuration %s, manifest %s", i.Name, digestOr(i.Config, "not given"), digestOr(i.Manifest, "not given"))
	}
	files := n.add("root file system %s: %s, %d bytes", c.Root.Digest, count(int(c.Root.Files), "file"), c.Root.Bytes)
	if c.Root.ReadOnly {
		files.add("the container cannot write to it")
	}
	p := c.Process
	process := n.add("runs %s in %q as uid %d, gid %d", argumentsText(p.Args), p.Cwd, p.UID, p.GID)
	process.add("capabilities: %s", wordsOr(p.Capabilities, "none"))
	process.add("environment: %s", wordsOr(p.Environment, "none"))
	process.add("digest of the environment: %s", digestOr(p.EnvironmentHash, "none, so values are not covered"))
	process.add("seccomp filter: %s", digestOr(p.Seccomp, "none"))
	if !p.NoNewPrivileges {
		process.add("programs that it runs may get more privileges than it has")
	}
	n.add("namespaces of its own: %s", wordsOr(c.Namespaces, "none"))
	if len(c.Shared) > 0 {
		n.add("of these, with processes of others in them: %s", wordsOr(c.Shared, "none"))
	}
	for _, m := range c.Mounts {
		n.add("NOT covered: %q, %s of %q (%s)", m.Destination, m.Type, m.Source, strings.Join(m.Options, ","))
	}
	for _, d := range c.Devices {
		n.add("device %q, %s %d:%d", d.Path, d.Type, d.Major, d.Minor)
	}
	if c.AllDevices {
		n.add("it may use EVERY device of the machine")
	}
}

// digestOr returns a digest as text, or what stands for a digest that is not there.
func digestOr(d *evidence.Digest, none string) string {
	if d == nil {
		return none
	}
	return d.String()
}

// wordsOr joins words, or returns what stands for none.
func wordsOr[L ~[]string](words L, none string) string {
	if len(words) == 0 {
		return none
	}
	return strings.Join(words, " ")
}

// argumentsText spells arguments for people, each in quotes: they are any bytes.
func argumentsText(args pcr.ContainerArgs) string {
	var out []string
	for _, a := range args {
		out = append(out, strconv.QuoteToASCII(string(a)))
	}
	return strings.Join(out, " ")
}
