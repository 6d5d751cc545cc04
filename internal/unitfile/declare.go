// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// A Draft is a declaration derived from a unit, for an administrator to complete.
type Draft struct {
	Text  []byte
	Notes []string // what the draft does not cover

	files []string
}

// searchPath are the folders in which systemd looks for a program without a slash in its name.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// Declare derives the declaration of an app from its unit: the programs that it starts,
// and the interpreters of those that are scripts. A unit file does not name libraries, modules
// and configuration: the notes do.
func Declare(root string, s *Service) (*Draft, error) {
	if err := s.returns(); err != nil {
		return nil, err
	}
	if s.DynamicUser {
		return nil, fmt.Errorf("%s sets DynamicUser=: systemd gives its uid to another unit later, so give it a user of its own", s.Name)
	}
	if s.RootChanged != "" {
		return nil, fmt.Errorf("%s sets %s=, so it sees other files than the agent: write the declaration by hand, and read \"What is covered\" in docs/apps.md", s.Name, s.RootChanged)
	}
	if len(s.Commands) == 0 {
		return nil, fmt.Errorf("%s has no ExecStart=", s.Name)
	}
	d := &Draft{}
	for _, p := range s.Programs() {
		if err := d.add(root, p); err != nil {
			return nil, err
		}
	}
	d.interpreters(root, s)
	// The notes become comments: a file must not end one, and begin a key.
	for i, n := range d.Notes {
		if !text.Shown(n) {
			d.Notes[i] = strconv.QuoteToASCII(n)
		}
	}
	d.write(s)
	return d, nil
}

// add adds a program, and the interpreter of a script.
func (d *Draft) add(root, program string) error {
	path, err := locate(root, program)
	if err != nil {
		return err
	}
	d.file(path)
	interpreter, libraries, err := look(root, path)
	if err != nil {
		return err
	}
	if interpreter != "" {
		at, err := locate(root, interpreter)
		if err != nil {
			return fmt.Errorf("interpreter of %s: %w", path, err)
		}
		d.file(at)
		d.Notes = append(d.Notes, fmt.Sprintf("%s is a script: its interpreter %s is covered, what the script includes or imports is not", path, at))
	}
	if len(libraries) > 0 {
		d.Notes = append(d.Notes, fmt.Sprintf("%s loads shared libraries, which are not covered: %s", path, strings.Join(libraries, " ")))
	}
	return nil
}

// interpreters adds a note on each command that only starts an interpreter: what runs then is in
// its arguments, of which those that name files are listed.
func (d *Draft) interpreters(root string, s *Service) {
	for _, c := range s.Commands {
		path, err := locate(root, c.Program)
		if err != nil {
			continue
		}
		target, err := Within(root, path)
		if err != nil || !interprets(path) && !interprets(target) {
			continue
		}
		note := fmt.Sprintf("interpreter only: %s is covered, and what it runs is not", path)
		var named []string
		for _, a := range c.Args {
			_, value, ok := strings.Cut(a, "=") // as -javaagent:x=/opt/y or --require=/opt/y
			if !ok {
				value = a
			}
			at, err := Within(root, value)
			if err != nil || !filepath.IsAbs(value) {
				continue
			}
			if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && !slices.Contains(d.files, value) {
				named = append(named, value)
			}
		}
		if len(named) > 0 {
			note += ". Its arguments name files, which belong to \"files\" if it runs them: " + strings.Join(named, " ")
		}
		d.Notes = append(d.Notes, note)
	}
}

// interprets reports whether a program is an interpreter, by the rule for what is measured of it.
func interprets(program string) bool {
	return pcr.Interpreter([]pcr.ManifestEntry{{Path: program, Mode: 0o100755}}) != ""
}

func (d *Draft) file(path string) {
	if !slices.Contains(d.files, path) {
		d.files = append(d.files, path)
	}
}

// write writes the declaration.
func (d *Draft) write(s *Service) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Derived from %s. Add what else the program runs, loads or is configured by.\n", s.Name)
	if s.Asked != s.Name {
		fmt.Fprintf(&b, "# It was asked for as %s, which is another name of this unit.\n", s.Asked)
	}
	if s.unit.Template {
		b.WriteString("# The unit is a template: every instance of it is this application.\n")
	}
	if cmp.Or(s.User, "root") == "root" {
		b.WriteString("# Processes of the unit under another user than root are outside the application. If they belong to\n# it, such as workers, name their users: users = [\"www-data\"].\n")
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "# %s.\n", n)
	}
	// Strings of Go that can be shown are strings of TOML. Others are not, and are refused when the
	// declaration is read.
	fmt.Fprintf(&b, "unit = %q\nuser = %q\nfiles = [\n", s.Name, cmp.Or(s.User, "root"))
	for _, f := range d.files {
		fmt.Fprintf(&b, "  %q,\n", f)
	}
	b.WriteString("]\n")
	d.Text = b.Bytes()
}

// returns refuses a unit whose name no later process has again.
func (s *Service) returns() error {
	if s.PerCall != "" && !s.unit.Template {
		template, _ := s.unit.TemplateOf()
		return fmt.Errorf("%s starts an instance of %s for each connection (Accept=yes), whose name never returns: declare the template %s", s.PerCall, template, template)
	}
	if s.Transient && madeUp.MatchString(s.Name) {
		return fmt.Errorf("%s is a name that systemd-run made up, and that never returns: give the unit a name with --unit=", s.Name)
	}
	return nil
}

// madeUp matches names of units that systemd-run makes up.
var madeUp = regexp.MustCompile(`^run-(u[0-9]+|r[0-9a-f]{32}|p[0-9]+-i[0-9]+)\.service$`)

func locate(root, program string) (string, error) {
	if filepath.IsAbs(program) {
		_, err := Within(root, program)
		return program, err
	}
	for _, dir := range searchPath {
		path := filepath.Join(dir, program)
		if _, err := Within(root, path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s: %w in %s", program, fs.ErrNotExist, strings.Join(searchPath, ":"))
}

// look returns what else a program needs: the interpreter of a script, or the names of the
// libraries of an executable.
func look(root, path string) (interpreter string, libraries []string, err error) {
	full, err := Within(root, path)
	if err != nil {
		return "", nil, err
	}
	f, err := durable.OpenRegular(full) // its owner need not be root, and could have made a FIFO
	if err != nil {
		return "", nil, fmt.Errorf("read the program %s: %w", path, err)
	}
	defer f.Close()
	head, err := bufio.NewReaderSize(f, 512).Peek(256) // the kernel reads as much of a script's first line
	if len(head) < 4 {
		return "", nil, fmt.Errorf("%s is not a program: %w", path, errors.Join(err))
	}
	if bytes.HasPrefix(head, []byte("#!")) {
		line, _, _ := bytes.Cut(head[2:], []byte("\n"))
		words := strings.Fields(string(line))
		if len(words) == 0 {
			return "", nil, fmt.Errorf("%s is a script without an interpreter", path)
		}
		if filepath.Base(words[0]) == "env" && len(words) > 1 && !strings.HasPrefix(words[1], "-") {
			return words[1], nil, nil // what env finds; env itself only looks for it
		}
		return words[0], nil, nil
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return "", nil, nil // the kernel may have a handler for it (binfmt_misc)
	}
	libraries, err = e.ImportedLibraries()
	return "", libraries, err
}
