// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/unitfile"
	"github.com/cvm-agentd/agentd/pcr"
)

// searchPath are the folders in which systemd looks for a program without a slash in its name.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// An execution is a program with its arguments, on the way from a command of the unit to what it
// runs in the end.
type execution struct {
	setting string // of the unit
	program string // path, or a name for the search path
	args    []string
	group   string
	why     string
	depth   int
	script  string // that a program before this one was started for
}

// follow follows a command of the unit.
func (c *collector) follow(setting string, x unitfile.Command, group string) error {
	search := c.service.SearchPath
	if len(search) == 0 {
		search = searchPath
	}
	e := &execution{setting: setting, args: c.words(setting, x.Args), group: group, why: setting + "= starts it"}
	var err error
	if e.program, err = c.locate(x.Program, search); err != nil {
		return err
	}
	return c.execute(e)
}

// locate returns the path of a program.
func (c *collector) locate(program string, search []string) (string, error) {
	if path.IsAbs(program) {
		_, err := c.find(program)
		return program, err
	}
	for _, dir := range search {
		if at, err := c.regular(path.Join(dir, program)); err == nil && at.info.Mode()&0o111 != 0 {
			return at.asked, nil
		}
	}
	return "", fmt.Errorf("program %s: %w in %s", program, fs.ErrNotExist, strings.Join(search, ":"))
}

// paths returns the folders in which a program of the unit looks for others.
func (c *collector) paths() []string {
	if list := c.env["PATH"]; list != "" {
		return splitList(list, ":")
	}
	return searchPath
}

// execute adds a program, what it loads, and what it runs by its arguments.
func (c *collector) execute(e *execution) error {
	if e.depth > maxNested {
		c.uncovered("%s= starts programs by more than %d others, and is not followed further", e.setting, maxNested)
		return nil
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	key := strings.Join(append([]string{e.program}, e.args...), "\x00")
	if c.run[key] {
		return nil
	}
	if len(c.run) == maxPrograms*2 {
		c.uncovered("more than %d programs are started, and the others are not followed", maxPrograms*2)
		return nil
	}
	c.run[key] = true
	c.tell(e.program)
	at, err := c.regular(e.program)
	if err != nil {
		return fmt.Errorf("read the program %s: %w", e.program, err)
	}
	head, err := c.head(at)
	if err != nil {
		return fmt.Errorf("read the program %s: %w", e.program, err)
	}
	if c.file(e.program, e.group, e.why) == nil {
		return nil
	}
	if rest, ok := strings.CutPrefix(head, "#!"); ok {
		return c.script(e, at, rest)
	}
	if len(head) < 4 {
		return fmt.Errorf("%s is not a program", e.program)
	}
	o, err := c.loader.objectAt(at)
	switch {
	case errors.Is(err, errNotELF):
		c.uncovered("%s is neither an executable nor a script: if the kernel has a handler for it (binfmt_misc), that is not followed", e.program)
	case err != nil:
		c.uncovered("what %s loads could not be read: %v", e.program, err)
	default:
		c.libraries(at, o)
	}
	c.language(e, at)
	return nil
}

// head returns the first bytes of a program, as many as the kernel reads of a script's first line.
func (c *collector) head(at *place) (string, error) {
	f, err := c.open(at)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 256)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b[:n]), nil
}

// script follows the interpreter of a script: with one argument at most, then the script and its
// arguments (execve(2)). It may be a script too.
func (c *collector) script(e *execution, at *place, rest string) error {
	line, _, _ := strings.Cut(rest, "\n")
	interpreter, argument, _ := strings.Cut(strings.Trim(line, " \t\r"), " ")
	if first, more, ok := strings.Cut(interpreter, "\t"); ok {
		interpreter, argument = first, more+" "+argument
	}
	if interpreter == "" {
		return fmt.Errorf("%s is a script without an interpreter", e.program)
	}
	if !path.IsAbs(interpreter) {
		c.uncovered("the interpreter of %s is looked for in its working directory (%s), and is not followed", e.program, interpreter)
		return nil
	}
	next := &execution{setting: e.setting, program: interpreter, group: groupNested, why: "runs " + e.program, depth: e.depth + 1, script: e.program}
	if argument = strings.Trim(argument, " \t"); argument != "" {
		next.args = append(next.args, argument)
	}
	next.args = append(next.args, e.program)
	next.args = append(next.args, e.args...)
	if err := c.execute(next); err != nil {
		return fmt.Errorf("interpreter of %s: %w", e.program, err)
	}
	return nil
}

// libraries adds what a program loads.
func (c *collector) libraries(at *place, o *object) {
	p := c.loader.load(at, o, c.env)
	c.current = p
	c.add(p)
	if o.interp != "" && p.musl == "" && c.files[at.asked] {
		c.uncovered("modules that the C library loads for %s by its configuration: those of /etc/nsswitch.conf, of iconv and of PAM", at.asked)
	}
}

// add adds the objects of a process.
func (c *collector) add(p *process) {
	for _, x := range p.all {
		by := p.program.path
		if x.by != nil {
			by = x.by.path
		}
		c.file(x.path, groupLibrary, x.why+" of "+by)
		c.laterOf(p, x)
	}
	c.laterOf(p, p.program)
	for _, s := range p.missing {
		c.uncovered("%s", s)
	}
	for _, s := range p.said {
		c.warning("%s", s)
	}
}

// laterOf says which libraries an object may load later, by its own word.
func (c *collector) laterOf(p *process, x *loaded) {
	var names []string
	for _, l := range x.object.later {
		for _, name := range l.Names {
			if p.byName[name] == nil && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		c.uncovered("%s may load later (dlopen): %s", x.path, some(names, maxOthers))
	}
}

// interprets reports whether a program is an interpreter, by the rule for what is measured of it.
func interprets(program string) bool {
	return pcr.Interpreter([]pcr.ManifestEntry{{Path: program, Mode: 0o100755}}) != ""
}

// language follows what a program runs by its arguments, if it is known to run something.
func (c *collector) language(e *execution, at *place) {
	before := len(c.out.Files) + len(c.out.Directories)
	name, target := path.Base(e.program), path.Base(at.real)
	switch {
	case isPython(name) || isPython(target):
		c.python(e, at)
	case name == "java" || target == "java":
		c.java(e, at)
	case slices.Contains([]string{"node", "nodejs"}, name) || slices.Contains([]string{"node", "nodejs"}, target):
		c.node(e)
	case name == "env":
		c.envCommand(e)
	case isShell(name) || isShell(target):
		c.shell(e)
	case starts(name):
		c.starter(e)
	default:
		c.arguments(e, e.args)
		if e.script != "" && interprets(at.real) {
			c.uncovered("%s runs in %s: what it includes or imports is not followed", e.script, e.program)
		}
	}
	if len(c.out.Files)+len(c.out.Directories) == before && e.script == "" && (interprets(e.program) || interprets(at.real)) {
		c.uncovered("interpreter only: %s is covered, and what it runs is not", e.program)
	}
	if e.setting == "ExecStart" && !interprets(at.real) && !interprets(e.program) {
		c.mains = append(c.mains, at)
	}
}

// arguments adds the files that arguments name.
func (c *collector) arguments(e *execution, args []string) {
	for _, a := range args {
		value := a
		if strings.HasPrefix(a, "-") || !path.IsAbs(a) {
			if _, v, ok := strings.Cut(a, "="); ok { // as -javaagent:x=/opt/y or --require=/opt/y
				value = v
			} else if i := strings.Index(a, "/"); strings.HasPrefix(a, "-") && i == 2 {
				value = a[i:] // as -c/etc/x
			}
		}
		value = strings.TrimPrefix(value, "file:")
		if value == "" || strings.HasPrefix(value, "-") || len(value) > maxName {
			continue
		}
		if !path.IsAbs(value) {
			if c.service.Directory == "" || !path.IsAbs(c.service.Directory) || !strings.ContainsAny(value, "./") {
				continue
			}
			value = absolute(value, c.service.Directory)
			if _, err := c.regular(value); err != nil {
				continue
			}
		}
		c.argument(value, "an argument of "+e.setting+"= names it", true)
	}
}

// argument adds what a path on a command line or in a variable names, if it is configuration and
// not data: only root can change it.
func (c *collector) argument(p, why string, demanded bool) {
	at, err := c.find(p)
	if err != nil {
		if demanded && !below(p, "/run") && !below(p, "/tmp") && !below(p, "/dev") && strings.Count(path.Clean(p), "/") > 1 {
			c.uncovered("%s does not exist (%s)", p, why)
		}
		return
	}
	writers := c.writers(at.real)
	switch {
	case c.files[at.asked] || c.folders[at.asked] || c.out.covers(at.real):
	case at.info.Mode().IsRegular() && writers == "":
		c.file(p, groupArgument, why)
	case at.info.Mode().IsRegular():
		c.uncovered("%s (%s) can be changed by another user than root: %s. If it is configuration, give it to root and list it", p, why, writers)
	case at.info.IsDir() && writers == "" && (below(p, "/etc") || below(p, "/usr") || below(p, "/opt")) && !shared(at.asked) && !shared(at.real):
		c.directory(p, why, true)
	case at.info.IsDir() && p != "/":
		c.uncovered("the folder %s (%s) is not covered: list it if it has code or configuration", p, why)
	}
}
