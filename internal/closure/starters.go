// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// shells are programs that read commands.
var shells = strings.Fields("ash bash busybox csh dash fish ksh mksh sh tcsh yash zsh")

func isShell(name string) bool { return slices.Contains(shells, name) }

// starters are programs that start the one that their arguments name.
var starters = strings.Fields(`
	capsh catatonit chpst chroot chrt dumb-init env firejail flock gosu ionice nice nohup nsenter numactl prlimit
	runuser setpriv setsid start-stop-daemon stdbuf strace su su-exec sudo systemd-cat systemd-inhibit
	taskset time timeout tini tini-static unshare xargs
`)

func starts(name string) bool { return slices.Contains(starters, name) }

// Starters whose arguments can name a user, who may have the name of a program; and those that can give
// what they start another root directory.
var (
	asUser = strings.Fields("capsh chpst chroot gosu runuser setpriv start-stop-daemon su su-exec sudo")
	inRoot = strings.Fields("capsh chpst chroot firejail nsenter start-stop-daemon unshare")
)

// starter follows a program that starts another one: the first of its arguments that is one. A user can
// have the name of a program, so one that is found in the search path need not be it.
func (c *collector) starter(e *execution) {
	name, found := path.Base(e.program), false
	if slices.Contains(inRoot, name) {
		c.uncovered("%s can give what it starts in %s= another root directory: then the paths here are other files", e.program, e.setting)
	}
	for i, a := range e.args {
		if strings.HasPrefix(a, "-") {
			if a == "-c" && i+1 < len(e.args) {
				c.commandLine(e, e.args[i+1])
				return
			}
			continue
		}
		if !path.IsAbs(a) && strings.ContainsRune(a, '/') {
			continue
		}
		program, err := c.locate(a, c.paths())
		if err != nil {
			continue
		}
		if at, err := c.regular(program); err != nil || at.info.Mode()&0o111 == 0 {
			continue
		}
		c.next(e, program, e.args[i+1:])
		if found = true; path.IsAbs(a) || !slices.Contains(asUser, name) {
			return
		}
	}
	if !found {
		c.uncovered("what %s starts could not be told from its arguments in %s=", e.program, e.setting)
	}
}

// next follows a program that another one starts. What cannot be read is said.
func (c *collector) next(e *execution, program string, args []string) {
	err := c.execute(&execution{setting: e.setting, program: program, args: args, group: groupStarted, why: e.program + " starts it", depth: e.depth + 1, script: e.script})
	if err != nil {
		c.uncovered("%s, which %s starts: %v", program, e.program, err)
	}
}

// envCommand follows env(1): options, assignments, and a program with its arguments. With -S an
// argument is split into several.
func (c *collector) envCommand(e *execution) {
	args, search := slices.Clone(e.args), c.paths()
	for n := 0; len(args) > 0 && n < maxListed; n++ {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
		case a == "-u" || a == "-C" || a == "--unset" || a == "--chdir":
			args = args[min(1, len(args)):]
		case a == "-S" || a == "--split-string" || a == "-vS":
			if len(args) > 0 {
				args = append(c.split(args[0], e.setting+"="), args[1:]...)
			}
		case strings.HasPrefix(a, "-S") || strings.HasPrefix(a, "-vS"):
			_, text, _ := strings.Cut(a, "S")
			args = append(c.split(text, e.setting+"="), args...)
		case strings.HasPrefix(a, "--split-string="):
			args = append(c.split(strings.TrimPrefix(a, "--split-string="), e.setting+"="), args...)
		case strings.HasPrefix(a, "-"):
		case strings.Contains(a, "="):
			name, value, _ := strings.Cut(a, "=")
			if name == "PATH" {
				search = splitList(value, ":")
			}
			if slices.Contains(loading, name) || listed[name] != "" || optional[name] != "" {
				c.uncovered("%s sets the variable %s, from which code is loaded", e.program, name)
			}
		default:
			program, err := c.locate(a, search)
			if err != nil {
				c.uncovered("%s, which %s starts for %s=: %v", a, e.program, e.setting, durable.Cause(err))
				return
			}
			c.next(e, program, args)
			return
		}
	}
	c.uncovered("%s starts no program that its arguments name", e.program)
}

// split splits a text as env -S does, and says if there are more words than are followed.
func (c *collector) split(text, of string) []string { return c.listed(splitString(text), of) }

// splitString splits the text of env -S: at blanks, with quotes and the escapes that env knows. A
// "#" at the beginning of a word ends it, and so does \c. Variables stay as they are.
func splitString(s string) (out []string) {
	var word strings.Builder
	in, quote := false, byte(0)
	end := func() {
		if in {
			out = append(out, word.String())
		}
		word.Reset()
		in = false
	}
	for i := 0; i < len(s) && len(out) <= maxListed; i++ { // one more is said
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && (quote != '\'' || s[i+1] == '\'' || s[i+1] == '\\'):
			i++
			switch {
			case s[i] == 'c' && quote == 0:
				end()
				return out
			case s[i] == '_' && quote == 0:
				end()
			case s[i] == '_':
				word.WriteByte(' ')
			default:
				at := strings.IndexByte("fnrtv", s[i])
				if at >= 0 {
					word.WriteByte("\f\n\r\t\v"[at])
				} else {
					word.WriteByte(s[i])
				}
				in = true
			}
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote == 0 && strings.IndexByte(" \t\n\v\f\r", c) >= 0:
			end()
		case quote == 0 && c == '#' && !in:
			return out
		default:
			word.WriteByte(c)
			in = true
		}
	}
	end()
	return out
}

// shell follows a shell: its script, or the command line of -c.
func (c *collector) shell(e *execution) {
	for i := 0; i < len(e.args); i++ {
		a := e.args[i]
		switch {
		case (a == "-o" || a == "+o" || a == "-O" || a == "--rcfile" || a == "--init-file") && i+1 < len(e.args):
			i++
			c.arguments(e, e.args[i:i+1])
		case strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.HasSuffix(a, "c"):
			if i+1 < len(e.args) {
				c.commandLine(e, e.args[i+1])
				c.arguments(e, e.args[i+2:])
			}
			return
		case strings.HasPrefix(a, "-") || strings.HasPrefix(a, "+"):
		default:
			script := absolute(a, c.service.Directory)
			if c.file(script, groupStarted, e.program+" runs it") != nil {
				c.uncovered("what the script %s runs, sources or reads is not followed: list it", script)
			}
			c.arguments(e, e.args[i+1:])
			return
		}
	}
}

// commandLine follows the words of a shell's command line that are paths of programs and files.
func (c *collector) commandLine(e *execution, line string) {
	words := splitList(line, " \t\n;|&()<>\"'`={}")
	for i, w := range c.listed(words, "a command line of "+e.setting+"=") {
		if !path.IsAbs(w) {
			continue
		}
		if at, err := c.regular(w); err == nil && at.info.Mode()&0o111 != 0 {
			args := words[i+1:]
			if len(args) > maxPaths {
				c.uncovered("%s has more than %d arguments on a command line of %s=: the others are not followed", w, maxPaths, e.setting)
				args = args[:maxPaths]
			}
			c.next(e, w, args)
		} else {
			c.argument(w, "the command line of "+e.program+" names it", true)
		}
	}
	c.uncovered("of the command line that %s= has %s run, only what it names by absolute paths is followed", e.setting, e.program)
}
