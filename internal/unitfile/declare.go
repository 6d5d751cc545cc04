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
	"slices"
	"strings"
)

// A Draft is a declaration derived from a unit, for an administrator to complete.
type Draft struct {
	Text  []byte
	Notes []string // what the draft does not cover
}

// searchPath are the folders in which systemd looks for a program without a slash in its name.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// Declare derives the declaration of an app from its unit: the programs that it starts,
// and the interpreters of those that are scripts. A unit file does not name libraries, modules
// and configuration: the notes do.
func Declare(root string, s *Service) (*Draft, error) {
	if s.DynamicUser {
		return nil, fmt.Errorf("%s sets DynamicUser=: systemd gives its uid to another unit later, so give it a user of its own", s.Name)
	}
	if s.RootChanged != "" {
		return nil, fmt.Errorf("%s sets %s=, so it sees other files than the agent: write the declaration by hand, and read \"What is covered\" in docs/apps.md", s.Name, s.RootChanged)
	}
	if len(s.Programs) == 0 {
		return nil, fmt.Errorf("%s has no ExecStart=", s.Name)
	}
	d := &Draft{}
	var files []string
	add := func(path string) {
		if !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	for _, p := range s.Programs {
		path, err := locate(root, p)
		if err != nil {
			return nil, err
		}
		add(path)
		interpreter, libraries, err := look(root, path)
		if err != nil {
			return nil, err
		}
		if interpreter != "" {
			at, err := locate(root, interpreter)
			if err != nil {
				return nil, fmt.Errorf("interpreter of %s: %w", path, err)
			}
			add(at)
			d.Notes = append(d.Notes, fmt.Sprintf("%s is a script: its interpreter %s is covered, what the script includes or imports is not", path, at))
		}
		if len(libraries) > 0 {
			d.Notes = append(d.Notes, fmt.Sprintf("%s loads shared libraries, which are not covered: %s", path, strings.Join(libraries, " ")))
		}
	}
	user := cmp.Or(s.User, "root")
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Derived from %s. Add what else the program runs, loads or is configured by.\n", s.Name)
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "# %s.\n", n)
	}
	// Strings of Go are strings of TOML: unit files are read by lines, so no control character
	// is in them.
	fmt.Fprintf(&b, "unit = %q\nuser = %q\nfiles = [\n", s.Name, user)
	for _, f := range files {
		fmt.Fprintf(&b, "  %q,\n", f)
	}
	b.WriteString("]\n")
	d.Text = b.Bytes()
	return d, nil
}

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
	f, err := os.Open(full)
	if err != nil {
		return "", nil, err
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
