// SPDX-License-Identifier: Apache-2.0

// Package unitfile reads from a systemd service unit which programs it runs, and as which user.
// It writes the drop-in by which the unit is measured before it starts. It asks no running
// systemd, so it also works on a folder that becomes a machine later.
package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// folders may contain unit files, of which the first counts, and drop-ins, which all count
// (systemd.unit(5)).
var folders = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// maxFile is the largest unit file that is read.
const maxFile = 1 << 20

// A Service is what the package reads from a service unit.
type Service struct {
	Name        string   // billing.service
	Files       []string // the unit file and its drop-ins, as seen inside root
	Programs    []string // executables of ExecStart=, as written
	User        string   // user of the unit; empty: root
	DynamicUser bool
	RootChanged string // setting by which the unit sees other files than the host; empty if none
}

// ErrNoUnit is returned if no folder contains the unit file.
var ErrNoUnit = errors.New("there is no such unit file")

// CheckName refuses what is not the name of a service that can run.
func CheckName(unit string) error {
	_, err := parseName(unit)
	return err
}

func parseName(unit string) (unitname.Name, error) {
	n, err := unitname.Running(unit)
	if err != nil || n.Type != "service" {
		return n, fmt.Errorf("%q is not the name of a service: write it like billing.service, or worker@1.service for the instance of a template", unit)
	}
	return n, nil
}

// Load reads the files of a unit below root, which is "/" on a running machine. A file of more
// than 1 MiB is an error.
func Load(root, unit string) (*Service, error) {
	n, err := parseName(unit)
	if err != nil {
		return nil, err
	}
	names := []string{unit}
	if template, ok := n.TemplateOf(); ok {
		names = append(names, template)
	}
	s := &Service{Name: unit}
	main, err := find(root, names)
	if err != nil {
		return nil, err
	}
	files := append([]string{main}, dropIns(root, names)...)
	for _, f := range files {
		b, err := readFile(root, f)
		if err != nil {
			return nil, err
		}
		if err := s.read(f, string(b)); err != nil {
			return nil, err
		}
		s.Files = append(s.Files, f)
	}
	return s, nil
}

func find(root string, names []string) (string, error) {
	for _, n := range names {
		for _, dir := range folders {
			path := filepath.Join(dir, n)
			_, err := os.Lstat(filepath.Join(root, path))
			if err == nil {
				return path, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return "", fmt.Errorf("%s: %w in %s", names[0], ErrNoUnit, strings.Join(folders, ", "))
}

// dropIns returns the drop-ins of the unit in the order of their names. One in an earlier
// folder hides those of the same name in later folders.
func dropIns(root string, names []string) []string {
	found := map[string]string{}
	for _, n := range names {
		for _, dir := range folders {
			d := filepath.Join(dir, n+".d")
			entries, err := os.ReadDir(filepath.Join(root, d))
			if err != nil {
				continue
			}
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".conf") && found[e.Name()] == "" {
					found[e.Name()] = filepath.Join(d, e.Name())
				}
			}
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out
}

func readFile(root, path string) ([]byte, error) {
	full, err := Within(root, path)
	if err != nil {
		return nil, err
	}
	return durable.ReadFile(full, maxFile)
}

// Within follows the links of path as they lead when root is "/", and returns the file that they
// lead to now. So a link in an image never leads to a file of this machine.
func Within(root, path string) (string, error) {
	root, err := filepath.Abs(root) // SecureJoin refuses a root with ".." in it
	if err != nil {
		return "", err
	}
	full, err := securejoin.SecureJoin(root, path)
	if err != nil {
		return "", err
	}
	_, err = os.Lstat(full)
	return full, err
}

// read reads the settings of one file.
func (s *Service) read(file, text string) error {
	section := ""
	for line := range joined(text) {
		switch {
		case line == "":
			continue
		case line[0] == '[':
			section = line
			continue
		case section != "[Service]":
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if err := s.set(key, value); err != nil {
			return fmt.Errorf("%s: %s=%s: %w", file, key, value, err)
		}
	}
	return nil
}

func (s *Service) set(key, value string) error {
	switch key {
	case "User":
		s.User = value
	case "DynamicUser":
		s.DynamicUser = slices.Contains([]string{"1", "yes", "true", "on"}, strings.ToLower(value))
	case "RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths", "MountImages", "ExtensionImages":
		if s.RootChanged = ""; value != "" {
			s.RootChanged = key
		}
	case "ExecStart":
		if value == "" {
			s.Programs = nil
			return nil
		}
		p, err := program(value)
		if err != nil {
			return err
		}
		if !slices.Contains(s.Programs, p) {
			s.Programs = append(s.Programs, p)
		}
	}
	return nil
}

// joined returns the lines of a unit file, with continued lines put together. It follows
// config_parse of systemd (src/shared/conf-parser.c): comments are skipped in the middle of a
// continued line too, and never continued, and an escaped backslash continues nothing.
// Package unit of go-systemd differs in both, so it would miss a setting after a comment that
// ends in a backslash.
func joined(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		whole := ""
		for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
			line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
				continue
			}
			rest := strings.TrimRight(line, `\`)
			if (len(line)-len(rest))%2 == 1 {
				whole += line[:len(line)-1] + " "
				continue
			}
			if !yield(strings.TrimSpace(whole + line)) {
				return
			}
			whole = ""
		}
		if whole != "" {
			yield(strings.TrimSpace(whole))
		}
	}
}

// program returns the executable of a command line (systemd.service(5), "Command lines").
func program(line string) (string, error) {
	line = strings.TrimLeft(line, "@-:+!|")
	if line == "" {
		return "", errors.New("it names no program")
	}
	if q := line[0]; q == '"' || q == '\'' {
		end := strings.IndexByte(line[1:], q)
		if end < 0 {
			return "", errors.New("a quote is not closed")
		}
		line = line[1 : 1+end]
	} else {
		line, _, _ = strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	}
	if strings.ContainsAny(line, `%$\`) {
		return "", errors.New("specifiers, variables and escapes in the program's name are not resolved here: write the declaration by hand")
	}
	if strings.ContainsRune(line, '/') && !filepath.IsAbs(line) {
		return "", errors.New("the program's path is not absolute")
	}
	return filepath.Clean(line), nil
}
