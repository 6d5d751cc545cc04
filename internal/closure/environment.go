// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// An environment is the variables of a unit, by their names. Their values can be secret: only
// paths that exist are shown.
type environment map[string]string

// environment collects the variables that the unit sets, and adds the files that set them.
func (c *collector) environment() {
	c.env = environment{}
	for _, assignment := range c.service.Environment {
		if name, value, ok := strings.Cut(assignment, "="); ok {
			c.env[name] = value
		}
	}
	for _, pattern := range c.service.EnvironmentFiles {
		files := c.matches(pattern)
		if len(files) == 0 {
			c.uncovered("the file of variables %s is not there yet: LD_PRELOAD and the like in it would decide what runs", pattern)
		}
		for _, f := range files {
			at := c.file(f, groupUnit, "it sets variables")
			b, err := c.read(f, maxText)
			if at == nil || err != nil {
				c.uncovered("the file of variables %s could not be read", f)
				continue
			}
			all := assignments(string(b))
			if len(all) > maxVariables {
				c.uncovered("the file of variables %s sets more than %d: the others are not followed", f, maxVariables)
				all = all[:maxVariables]
			}
			for _, v := range all {
				c.env[v.name] = v.value
			}
		}
	}
	c.managers()
	for _, name := range c.service.Passed {
		c.uncovered("the variable %s has the value that systemd itself has (PassEnvironment=)", name)
	}
	for _, name := range c.service.Unset {
		name, value, exact := strings.Cut(name, "=")
		if !exact || c.env[name] == value {
			delete(c.env, name)
		}
	}
	delete(c.env, "")
}

// managers says which files of systemd's own set variables for all units (systemd-system.conf(5)).
func (c *collector) managers() {
	for _, dir := range []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"} {
		for _, f := range append([]string{path.Join(dir, "system.conf")}, c.matches(path.Join(dir, "system.conf.d/*.conf"))...) {
			b, err := c.read(f, maxText)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				c.uncovered("%s could not be read: DefaultEnvironment= in it would set variables for the unit: %v", f, durable.Cause(err))
			}
			for line := range strings.Lines(string(b)) {
				if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == "DefaultEnvironment" && strings.TrimSpace(value) != "" {
					c.uncovered("%s sets variables for all units (DefaultEnvironment=), which are not followed: LD_PRELOAD and the like in them decide what runs", f)
				}
			}
		}
	}
}

// An assignment is one line of a file of variables.
type assignment struct{ name, value string }

// assignments reads a file of variables as systemd does (systemd.exec(5), "EnvironmentFile="): lines
// of NAME=VALUE, comments after "#" or ";" at the beginning of a line, quotes as of a shell, and a
// backslash that continues a line.
func assignments(text string) (out []assignment) {
	for text != "" && len(out) <= maxVariables { // one more is said
		text = strings.TrimLeft(text, " \t\r\n")
		if text == "" {
			break
		}
		if text[0] == '#' || text[0] == ';' {
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		end := strings.IndexAny(text, "=\n")
		if end < 0 {
			break
		}
		if text[end] == '\n' {
			text = text[end+1:]
			continue
		}
		name := strings.TrimSpace(text[:end])
		var value string
		value, text = assigned(text[end+1:])
		if variable(name) {
			out = append(out, assignment{name, value})
		}
	}
	return out
}

// assigned returns the value at the beginning of a text, and what comes after its line.
func assigned(text string) (value, rest string) {
	var out strings.Builder
	text = strings.TrimLeft(text, " \t")
	quote, blanks := byte(0), 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text) && quote != '\'':
			i++
			if text[i] != '\n' {
				if quote == '"' && !strings.ContainsRune("\"\\`$", rune(text[i])) {
					out.WriteByte('\\')
				}
				out.WriteByte(text[i])
				blanks = out.Len()
			}
		case quote == 0 && c == '\n':
			return out.String()[:max(blanks, len(strings.TrimRight(out.String(), " \t\r")))], text[i+1:]
		case c == quote:
			quote, blanks = 0, out.Len()
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		default:
			out.WriteByte(c)
		}
	}
	return strings.TrimRight(out.String(), " \t\r"), ""
}

// variable reports whether a name can be that of a variable.
func variable(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && (name[0] < '0' || name[0] > '9')
}

// words returns the arguments of a command as systemd passes them: specifiers and variables are
// replaced (systemd.service(5), "Command lines"). A word that is a variable alone is split.
func (c *collector) words(setting string, args []string) (out []string) {
	for _, a := range args {
		expanded, err := c.service.Expand(a)
		if err != nil {
			c.uncovered("an argument of %s= is another one on each machine or instance (%s), and is not followed", setting, a)
			continue
		}
		if name, ok := strings.CutPrefix(expanded, "$"); ok && variable(name) {
			out = append(out, strings.Fields(c.value(setting, name))...)
			continue
		}
		out = append(out, c.replaced(setting, expanded))
	}
	return c.listed(out, setting+"=")
}

// listed returns the first of a list of words, and says if there are more.
func (c *collector) listed(words []string, of string) []string {
	if len(words) > maxListed {
		c.uncovered("%s has more than %d words: the others are not followed", of, maxListed)
	}
	return words[:min(len(words), maxListed)]
}

// replaced replaces variables in braces, and doubled dollars.
func (c *collector) replaced(setting, s string) string {
	var out strings.Builder
	for s != "" {
		before, after, ok := strings.Cut(s, "$")
		out.WriteString(before)
		if !ok {
			break
		}
		if rest, double := strings.CutPrefix(after, "$"); double {
			out.WriteByte('$')
			s = rest
			continue
		}
		if name, rest, closed := strings.Cut(strings.TrimPrefix(after, "{"), "}"); strings.HasPrefix(after, "{") && closed && variable(name) {
			out.WriteString(c.value(setting, name))
			s = rest
			continue
		}
		out.WriteByte('$')
		s = after
	}
	return out.String()
}

func (c *collector) value(setting, name string) string {
	v, ok := c.env[name]
	if !ok {
		c.uncovered("the variable %s in %s= is not set by the unit, and is not followed", name, setting)
	}
	return v
}

// listed are variables that list folders from which programs load code, with what reads them. The
// others have handlers of their own.
var listed = map[string]string{
	"PERL5LIB": "perl", "PERLLIB": "perl", "RUBYLIB": "ruby", "GEM_PATH": "ruby", "GEM_HOME": "ruby", "GCONV_PATH": "the C library",
	"OPENSSL_MODULES": "OpenSSL", "OPENSSL_ENGINES": "OpenSSL", "GIO_EXTRA_MODULES": "GLib", "GST_PLUGIN_PATH": "GStreamer", "LUA_PATH": "lua", "LUA_CPATH": "lua",
	"PHP_INI_SCAN_DIR": "php", "R_LIBS": "R", "PYTHONHOME": "python", "PYTHONPATH": "python", "NODE_PATH": "node",
}

// optional are variables with options by which programs load code, and that are not followed; loading are
// those that have handlers of their own.
var (
	optional = map[string]string{"PERL5OPT": "perl", "RUBYOPT": "ruby", "BASH_ENV": "bash", "ENV": "sh", "PYTHONSTARTUP": "python"}
	loading  = []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "NODE_OPTIONS"}
)

// variables adds the files that variables name, and the folders from which code is loaded.
func (c *collector) variables() {
	names := make([]string, 0, len(c.env))
	for name := range c.env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := c.env[name]
		if slices.Contains([]string{"PATH", "HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "CLASSPATH"}, name) {
			continue
		}
		if by, ok := listed[name]; ok {
			for _, dir := range splitList(value, ":") {
				if path.IsAbs(dir) {
					c.searched(dir, "the variable "+name+" has "+by+" load code from it")
				}
			}
			continue
		}
		if by := optional[name]; by != "" && !path.IsAbs(value) {
			c.uncovered("by the variable %s, %s may load code that is not followed", name, by)
		}
		if path.IsAbs(value) && len(value) <= maxName {
			c.argument(value, "the variable "+name+" names it", false)
		}
	}
}

// searched adds a folder or a file from which code is loaded.
func (c *collector) searched(p, why string) {
	at, err := c.find(p)
	switch {
	case err != nil:
		if w := c.writers(c.nearest(p)); w != "" {
			c.warning("%s is searched for code (%s), does not exist, and another user than root can make it: %s", p, why, w)
		} else {
			c.uncovered("%s is searched for code (%s), and does not exist", p, why)
		}
	case at.info.IsDir():
		c.directory(p, why, false)
	default:
		c.file(p, groupArgument, why)
	}
}
