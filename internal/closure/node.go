// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"path"
	"slices"
	"strings"
)

// A nodeRun is what the arguments of Node say.
type nodeRun struct {
	script string
	code   bool     // -e or -p
	loads  []string // modules that are loaded before
	rest   []string
}

// nodeValues are options of Node that take the next argument; those of the first line load it.
var (
	nodeLoads  = []string{"-r", "--require", "--import", "--loader", "--experimental-loader", "--env-file", "--env-file-if-exists"}
	nodeValues = []string{"-C", "--conditions", "--title", "--input-type", "--icu-data-dir", "--openssl-config", "--diagnostic-dir", "--inspect-port", "--stack-trace-limit"}
)

// nodeArguments reads the arguments.
func nodeArguments(args []string) (r nodeRun) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		name, value, given := strings.Cut(a, "=")
		switch {
		case slices.Contains(nodeLoads, name):
			if !given && i+1 < len(args) {
				i++
				value = args[i]
			}
			r.loads = append(r.loads, value)
		case slices.Contains([]string{"-e", "-p", "-pe", "--eval", "--print"}, name):
			r.code, r.rest = true, args[i+1:]
			return r
		case slices.Contains(nodeValues, a):
			i++
		case a == "--" || a == "-" || !strings.HasPrefix(a, "-"):
			if a == "--" && i+1 < len(args) {
				i++
				a = args[i]
			}
			r.script, r.rest = a, args[i+1:]
			return r
		default:
			r.rest = append(r.rest, a) // may name a file
		}
	}
	return r
}

// node adds the script that Node runs, its package, and the folders node_modules from the script
// upwards, in which Node looks for modules.
func (c *collector) node(e *execution) {
	r := nodeArguments(append(strings.Fields(c.env["NODE_OPTIONS"]), e.args...))
	for _, p := range r.loads {
		if path.IsAbs(p) || strings.HasPrefix(p, ".") {
			c.searched(c.moduleFile(absolute(p, c.service.Directory)), "Node loads it before "+e.setting+"=")
		}
	}
	switch {
	case r.code:
		c.uncovered("the program of Node on the command line of %s=, and what it loads", e.setting)
	case r.script == "" || r.script == "-":
		c.uncovered("%s reads its program from standard input", e.program)
	default:
		c.nodeScript(e, c.moduleFile(absolute(r.script, c.service.Directory)))
	}
	for _, dir := range []string{"/usr/share/nodejs", "/usr/lib/node_modules", "/usr/local/lib/node_modules"} {
		if c.isFolder(dir) {
			c.uncovered("modules of Node for all programs, in %s", dir)
		}
	}
	c.arguments(e, r.rest)
}

// moduleFile returns the file that Node takes for a module: itself, with an ending, or the index of a folder.
func (c *collector) moduleFile(p string) string {
	for _, file := range []string{p, p + ".js", p + ".cjs", p + ".mjs", path.Join(p, "index.js")} {
		if at, err := c.regular(file); err == nil {
			return at.asked
		}
	}
	return p
}

// nodeScript adds a script, the folder of its package, and node_modules. Node follows a link to the
// script before it looks for modules.
func (c *collector) nodeScript(e *execution, script string) {
	at := c.file(script, groupStarted, e.program+" runs it")
	if at == nil {
		if c.isFolder(script) { // the package names its main file
			c.nodeFolders(path.Join(script, "x"), script)
		}
		return
	}
	c.nodeFolders(at.real, script)
}

// nodeFolders adds the package that a file is in, and the folders of modules from there upwards.
func (c *collector) nodeFolders(file, script string) {
	owner := ""
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		if _, err := c.regular(path.Join(dir, "package.json")); err == nil && owner == "" && path.Base(dir) != "node_modules" {
			owner = dir
		}
		if modules := path.Join(dir, "node_modules"); c.isFolder(modules) {
			c.directory(modules, "Node looks for modules of "+script+" there", false)
		}
		if dir == "/" {
			break
		}
	}
	if owner == "" {
		owner = path.Dir(file)
	}
	if shared(owner) {
		c.uncovered("files that %s loads from %s, which other programs share", script, owner)
		return
	}
	c.directory(owner, "the package of "+script, false)
}
