// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// A javaRun is what the arguments of a launcher of Java say.
type javaRun struct {
	classes []string // of the class path
	modules []string // folders and archives of modules
	jar     string
	main    string   // class or module
	files   []string // agents, and what else is loaded by its path
	options []string // files with further options
	rest    []string
}

// javaLists are the options of the launcher that take a list of paths.
var javaLists = []string{"-cp", "-classpath", "--class-path"}

var javaModules = []string{"-p", "--module-path", "--upgrade-module-path"}

// javaValues are options that take a value after them.
var javaValues = []string{
	"--add-modules", "--add-reads", "--add-exports", "--add-opens", "--limit-modules", "--patch-module", "--enable-native-access", "--source", "-d", "--describe-module",
}

// javaArguments reads the arguments of a launcher, in which argument files were replaced.
func javaArguments(args []string) (r javaRun) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		name, value, given := strings.Cut(a, "=")
		next := func() string {
			if strings.HasPrefix(a, "--") && given {
				return value
			}
			i++
			if i < len(args) {
				return args[i]
			}
			return ""
		}
		switch {
		case slices.Contains(javaLists, name):
			r.classes = splitList(next(), ":")
		case slices.Contains(javaModules, name):
			r.modules = append(r.modules, splitList(next(), ":")...)
		case a == "-jar":
			r.jar = next()
			r.rest = args[min(i+1, len(args)):]
			return r
		case name == "-m" || name == "--module":
			r.main = next()
			r.rest = args[min(i+1, len(args)):]
			return r
		case name == "--patch-module":
			_, list, _ := strings.Cut(next(), "=")
			r.files = append(r.files, splitList(list, ":")...)
		case strings.HasPrefix(a, "-javaagent:"), strings.HasPrefix(a, "-agentpath:"):
			_, file, _ := strings.Cut(a, ":")
			file, _, _ = strings.Cut(file, "=")
			r.files = append(r.files, file)
		case name == "-XX:VMOptionsFile" || name == "-XX:Flags":
			r.options = append(r.options, value)
		case strings.HasPrefix(a, "-Xbootclasspath"):
			_, list, _ := strings.Cut(a, ":")
			r.files = append(r.files, splitList(list, ":")...)
		case name == "-Djava.library.path" || name == "-Djava.ext.dirs" || name == "-Djava.security.properties":
			r.files = append(r.files, splitList(value, ":")...)
		case slices.Contains(javaValues, name):
			next()
		case strings.HasPrefix(a, "-"):
			r.rest = append(r.rest, a) // may name a file
		default:
			r.main = a
			r.rest = append(r.rest, args[i+1:]...)
			return r
		}
	}
	return r
}

// java adds the runtime behind a launcher, and the archives and folders that its classes are in.
func (c *collector) java(e *execution, at *place) {
	c.runtime(e, at)
	args := e.args
	for _, name := range []string{"JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"} {
		args = append(strings.Fields(c.env[name]), args...)
	}
	r := javaArguments(c.argumentFiles(args, 1))
	if r.classes == nil && r.jar == "" && r.main != "" && len(r.modules) == 0 {
		if list := c.env["CLASSPATH"]; list != "" {
			r.classes = splitList(list, ":")
		} else if c.service.Directory != "" {
			r.classes = []string{"."}
		}
	}
	if r.jar != "" {
		r.classes = []string{r.jar} // it replaces the class path
	}
	read := 0
	for _, p := range r.classes {
		c.classes(absolute(p, c.service.Directory), "it is in the class path of "+e.setting+"=", &read)
	}
	for _, p := range slices.Concat(r.modules, r.files) {
		c.searched(absolute(p, c.service.Directory), "Java loads it for "+e.setting+"=")
	}
	for _, p := range r.options {
		p = absolute(p, c.service.Directory)
		c.argument(p, "Java reads options from it for "+e.setting+"=", true)
		c.uncovered("the options of Java in %s are not followed: an agent or a class path in them decides what runs", p)
	}
	if len(r.classes)+len(r.modules) == 0 {
		c.uncovered("the classes that %s runs for %s= could not be told from its arguments", e.program, e.setting)
	}
	c.arguments(e, r.rest)
}

// runtime adds the runtime that a launcher belongs to. Its machine is lib/server/libjvm.so, which
// the launcher loads by its path, and not as a library that its headers name.
func (c *collector) runtime(e *execution, at *place) {
	home := path.Dir(path.Dir(at.real))
	for _, machine := range []string{"lib/server/libjvm.so", "lib/amd64/server/libjvm.so", "jre/lib/amd64/server/libjvm.so", "lib/client/libjvm.so"} {
		if _, err := c.regular(path.Join(home, machine)); err == nil {
			c.directory(home, "the runtime of Java behind "+e.program+", with "+machine, false)
			return
		}
	}
	c.uncovered("the machine of Java (lib/server/libjvm.so) is not found behind %s", e.program)
}

// argumentFiles replaces arguments of the form @FILE by what is in the file: words parted by
// blanks, with quotes.
func (c *collector) argumentFiles(args []string, depth int) (out []string) {
	for _, a := range args {
		name, ok := strings.CutPrefix(a, "@")
		if !ok || strings.HasPrefix(name, "@") || depth > 2 {
			out = append(out, a)
			continue
		}
		file := absolute(name, c.service.Directory)
		b, err := c.read(file, maxText)
		if c.file(file, groupArgument, "it has arguments of Java") == nil {
			continue // which is said
		}
		if err != nil {
			c.uncovered("the arguments of Java in %s could not be read: %v", file, durable.Cause(err))
			continue
		}
		out = append(out, c.argumentFiles(c.split(string(b), file), depth+1)...)
	}
	return c.listed(out, "the command line of Java")
}

// classes adds an element of a class path: all archives of a folder (DIR/*), or what element says.
func (c *collector) classes(p, why string, read *int) {
	if dir, all := strings.CutSuffix(p, "/*"); all {
		names, more := c.list(dir, maxListed)
		if more {
			c.uncovered("more than %d files in %s (%s)", maxListed, dir, why)
		}
		for _, name := range names {
			if ext := path.Ext(name); ext == ".jar" || ext == ".JAR" {
				c.element(path.Join(dir, name), why, read)
			}
		}
		c.uncovered("archives that are put into %s later are in the class path too: only those of now are listed", dir)
		return
	}
	c.element(p, why, read)
}

// element adds a folder, or an archive with those that its manifest names.
func (c *collector) element(p, why string, read *int) {
	if at, err := c.find(p); err != nil || at.info.IsDir() {
		c.searched(p, why)
		return
	}
	before := c.files[path.Clean(p)]
	at := c.file(p, groupArgument, why)
	if at == nil || before {
		return
	}
	if *read++; *read > maxIncluded {
		c.uncovered("more than %d archives: the class path in their manifests is not followed", maxIncluded)
		return
	}
	f, err := c.open(at)
	if err != nil {
		c.uncovered("the manifest of %s could not be read: %v", p, durable.Cause(err))
		return
	}
	defer f.Close()
	next, err := classPath(f, at.info.Size())
	if err != nil {
		c.uncovered("the manifest of %s could not be read as a whole, so not all of a class path in it is followed: %v", p, err)
	}
	for _, n := range next {
		c.element(absolute(n, path.Dir(at.asked)), "the manifest of "+at.asked+" names it", read) // "*" is a name there
	}
}
