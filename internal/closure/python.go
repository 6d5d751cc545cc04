// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// isPython reports whether a program is an interpreter of Python, by its name.
func isPython(name string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(name, "-dbg"), "python")
	if !ok {
		rest, ok = strings.CutPrefix(name, "pypy")
	}
	return ok && strings.Trim(rest, "0123456789.d") == ""
}

// A pythonRun is what the arguments of an interpreter of Python say.
type pythonRun struct {
	script   string // file or folder; empty with a module, a command, or nothing
	module   string
	command  bool
	isolated bool // -I: neither the script's folder nor variables
	noSite   bool // -S
	noWrite  bool // -B
	rest     []string
}

// pythonArguments reads the arguments: options may be put together, and some take a value.
func pythonArguments(args []string) (r pythonRun) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "-" || !strings.HasPrefix(a, "-") {
			r.script, r.rest = a, args[i+1:]
			return r
		}
		if strings.HasPrefix(a, "--") {
			if a == "--check-hash-based-pycs" {
				i++
			}
			continue
		}
		for j := 1; j < len(a); j++ {
			value := a[j+1:]
			if strings.IndexByte("mcWXQ", a[j]) >= 0 && value == "" && i+1 < len(args) {
				i++
				value = args[i]
			}
			switch a[j] {
			case 'm', 'c':
				if r.command = a[j] == 'c'; !r.command {
					r.module = value
				}
				r.rest = args[min(i+1, len(args)):]
				return r
			case 'I':
				r.isolated = true
			case 'S':
				r.noSite = true
			case 'B':
				r.noWrite = true
			}
			if strings.IndexByte("WXQ", a[j]) >= 0 {
				break
			}
		}
	}
	return r
}

// python adds the program that an interpreter of Python runs, the standard library, and the folders
// of packages: those of a virtual environment, or of the system.
func (c *collector) python(e *execution, at *place) {
	r := pythonArguments(e.args)
	c.pythonProgram(e, &r)
	if !r.noWrite && c.env["PYTHONDONTWRITEBYTECODE"] == "" {
		c.uncovered("Python may write bytecode beside the modules, which changes the application: set Environment=PYTHONDONTWRITEBYTECODE=1 in the unit")
	}
	prefix := path.Dir(path.Dir(at.real))
	site := !r.noSite
	if venv, settings := c.venv(e.program); venv != "" {
		c.directory(venv, "the virtual environment of "+e.program, false)
		c.pathFiles(venv)
		if home := settings["home"]; path.IsAbs(home) && c.isFolder(path.Dir(home)) {
			if base, err := c.find(path.Dir(home)); err == nil && base.real != prefix {
				c.pythonLibrary(base.real, at, true)
			}
		}
		site = site && settings["include-system-site-packages"] == "true"
	}
	c.pythonLibrary(prefix, at, false)
	if !site {
		return
	}
	c.pathFiles(prefix) // of packages in the standard library's folder, as of an interpreter that was built apart
	for _, dir := range []string{"/usr/lib/python3/dist-packages", "/usr/local/lib/" + version(at) + "/dist-packages", "/usr/local/lib/" + version(at) + "/site-packages"} {
		if c.isFolder(dir) && (prefix == "/usr" || prefix == "/usr/local") && c.holds(dir) {
			c.directory(dir, "packages of Python for all programs", true)
			c.pathFiles(dir)
		}
	}
	if user := c.service.User; user != "" && user != "root" && !r.isolated {
		c.uncovered("packages of Python in the home of %s (~/.local/lib): start Python with -s, or set PYTHONNOUSERSITE=1, so that it loads none", user)
	}
}

// pythonProgram adds the script or the module that runs. Python imports from the folder of its script,
// and with -m from its working directory.
func (c *collector) pythonProgram(e *execution, r *pythonRun) {
	work := c.service.Directory
	switch {
	case r.script == "-":
		c.uncovered("%s reads its program from standard input", e.program)
	case r.script != "":
		script := absolute(r.script, work)
		if c.isFolder(script) {
			c.directory(script, e.program+" runs it", false)
		} else if at := c.file(script, groupStarted, e.program+" runs it"); at != nil && !r.isolated {
			c.importable(path.Dir(at.real), "Python imports from the folder of "+script)
		}
	case r.module != "":
		if path.IsAbs(work) && work != "/" && !r.isolated {
			c.importable(path.Clean(work), "Python looks for the module "+r.module+" in the working directory")
		} else {
			c.uncovered("the module %s is covered only if it is in a folder that is listed", r.module)
		}
	case r.command:
		c.uncovered("the program of Python on the command line of %s=, and what it imports", e.setting)
	}
	if path.IsAbs(work) && r.script != "" && c.hasModules(work) {
		c.importable(path.Clean(work), "the working directory has modules of Python")
	}
	c.arguments(e, r.rest)
}

// importable adds a folder from which Python imports, if it belongs to the application alone.
func (c *collector) importable(dir, why string) {
	if shared(dir) {
		c.uncovered("modules in %s, which all programs share: %s", dir, why)
		return
	}
	if !c.directory(dir, why, false) {
		c.uncovered("%s does not exist: %s", dir, why)
	}
}

// hasModules reports whether a folder has modules of Python.
func (c *collector) hasModules(dir string) bool {
	names, more := c.list(dir, maxListed)
	found := slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".py") })
	if more && !found {
		c.uncovered("%s has more than %d names: whether there are modules of Python was not looked at", dir, maxListed)
	}
	return found
}

func (c *collector) holds(dir string) bool {
	names, _ := c.list(dir, 1)
	return len(names) > 0
}

// venv returns the virtual environment that a path of an interpreter is in, and its settings. It is
// found by the path as it is started, which is a link out of it.
func (c *collector) venv(program string) (string, map[string]string) {
	bin := path.Dir(program)
	for _, dir := range []string{bin, path.Dir(bin)} {
		b, err := c.read(path.Join(dir, "pyvenv.cfg"), maxText)
		if err != nil {
			continue
		}
		settings := map[string]string{}
		for line := range strings.Lines(string(b)) {
			key, value, ok := strings.Cut(line, "=")
			switch key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value); {
			case !ok:
			case key == "home":
				settings[key] = value
			case key == "include-system-site-packages":
				settings[key] = strings.ToLower(value)
			}
		}
		return dir, settings
	}
	return "", nil
}

// version returns the name that folders of a version of Python have, as python3.11.
func version(at *place) string { return strings.TrimSuffix(path.Base(at.real), "-dbg") }

// pythonLibrary adds the standard library below a prefix.
func (c *collector) pythonLibrary(prefix string, at *place, quiet bool) {
	found := false
	for _, lib := range []string{"lib", "lib64"} {
		dirs := []string{path.Join(prefix, lib, version(at))}
		if !strings.Contains(version(at), ".") {
			dirs = c.matches(path.Join(prefix, lib, "python3.*"))
		}
		for _, dir := range dirs {
			if real, ok := c.folder(dir); ok && !slices.ContainsFunc(c.out.Directories, func(d Folder) bool { return d.real == real.real }) {
				found = c.directory(dir, "the standard library of Python", false) || found
			} else {
				found = found || ok
			}
		}
	}
	if !found && !quiet {
		c.uncovered("the standard library of %s is not found below %s", at.asked, prefix)
	}
}

// pathFiles follows the .pth files of folders of packages: lines that name folders, and lines that
// begin with import, which Python runs (documentation of the module site).
func (c *collector) pathFiles(top string) {
	dirs := []string{top}
	for _, lib := range []string{"lib", "lib64"} {
		dirs = append(dirs, c.matches(path.Join(top, lib, "python3*", "site-packages"))...)
	}
	read := 0
	for _, dir := range dirs {
		names, more := c.list(dir, maxListed)
		if more {
			c.uncovered("%s has more than %d names: not all .pth files are followed", dir, maxListed)
		}
		for _, name := range names {
			if !strings.HasSuffix(name, ".pth") {
				continue
			}
			if read++; read > maxIncluded {
				c.uncovered("more than %d .pth files: the others are not followed", maxIncluded)
				return
			}
			c.pathFile(dir, path.Join(dir, name))
		}
	}
}

// pathFile follows one .pth file.
func (c *collector) pathFile(dir, file string) {
	b, err := c.read(file, maxText)
	if err != nil {
		c.uncovered("%s could not be read: %v", file, durable.Cause(err))
		return
	}
	paths, code := pathLines(string(b))
	if code {
		c.uncovered("%s has code that Python runs at each start: what it loads is covered only if it is listed", file)
	}
	if len(paths) > maxPaths {
		c.uncovered("%s names more than %d paths: the others are not followed", file, maxPaths)
		paths = paths[:maxPaths]
	}
	for _, p := range paths {
		p = absolute(p, dir)
		at, err := c.find(p)
		if err != nil || c.out.covers(at.real) {
			continue // Python passes over what does not exist
		}
		why := fmt.Sprintf("%s names it", file)
		if w := c.writers(at.real); w != "" && c.writers(file) != "" {
			c.uncovered("%s is on the search path of Python (%s), and is not followed: %s", p, why, w)
			continue
		}
		c.searched(p, why)
	}
}

// pathLines reads the lines of a .pth file: the paths, and whether it has code.
func pathLines(text string) (paths []string, code bool) {
	ends := func(r rune) bool { return strings.ContainsRune("\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029", r) } // str.splitlines
	for line := range strings.FieldsFuncSeq(strings.TrimPrefix(text, "\ufeff"), ends) {
		line = strings.TrimRight(line, " \t")
		switch {
		case line == "" || line[0] == '#' || len(line) > maxName || strings.ContainsRune(line, 0):
		case strings.HasPrefix(line, "import ") || strings.HasPrefix(line, "import\t"):
			code = true
		case len(paths) <= maxPaths: // one more is said
			paths = append(paths, line)
		}
	}
	return paths, code
}
