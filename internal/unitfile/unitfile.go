// SPDX-License-Identifier: Apache-2.0

// Package unitfile reads from a systemd service unit which programs it runs, and as which user.
// It writes the drop-in by which the unit is measured before it starts. It asks no running
// systemd, so it also works on a folder that becomes a machine later.
package unitfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// maxFile is the largest unit file that is read.
const maxFile = 1 << 20

// A Service is what the package reads from a service unit.
type Service struct {
	Name        string    // billing.service, as its processes have it; worker@.service of a template
	Asked       string    // name that it was asked for: an alias, or Name
	Files       []string  // the unit file and its drop-ins, as seen inside root
	Commands    []Command // those of ExecStart=
	User        string    // user of the unit; empty: root
	DynamicUser bool
	Transient   bool     // made by a program while the system runs
	PerCall     string   // socket that starts an instance for each connection (Accept=yes); empty if none
	Fallbacks   []string // credentials that systemd takes from the unit if it cannot reach their source (SetCredential=)
	RootChanged string   // setting by which the unit sees other files than the host; empty if none
	Beside      []Beside // commands of other settings than ExecStart=, in the order of the files
	Directory   string   // WorkingDirectory=, without "-" before it; "~" is the home of the user

	Environment      []string // assignments of Environment=, specifiers replaced
	EnvironmentFiles []string // patterns of paths of EnvironmentFile=, without "-" before them
	Passed           []string // names of PassEnvironment=, whose values the manager has
	Unset            []string // names and assignments of UnsetEnvironment=
	SearchPath       []string // of ExecSearchPath=; empty if that is not set
	Unread           []string // settings that could not be read, in words, which do not name what ExecStart= starts

	root    string    // of the files
	as      *identity // what RunsAs found
	unit    unitname.Name
	aliases bool          // whether the unit has further names
	start   time.Duration // TimeoutStartSec= or TimeoutSec=; 0 if neither is set
	usual   time.Duration // start timeout of units that set none
	oneshot bool          // Type=oneshot
	other   map[string]bool
}

// A Command is one command line of ExecStart=.
type Command struct {
	Program string   // an absolute path, or a name that is looked for in the search path
	Args    []string // after the program's name
}

// A Beside is a command of a setting such as ExecStartPre=.
type Beside struct {
	Setting string
	Command
}

// Complete returns the name of a unit with its type, as systemctl takes it: without one it is a
// service.
func Complete(unit string) string {
	if _, err := unitname.Parse(unit); err != nil && unit != "" {
		if _, err := unitname.Parse(unit + ".service"); err == nil {
			return unit + ".service"
		}
	}
	return unit
}

// CheckName refuses what is not the name of a service, or of a template of services.
func CheckName(unit string) error {
	n, err := unitname.Parse(unit)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not the name of a service: write it like billing.service, or worker@1.service for the instance of a template; `systemd-escape` writes other characters", unit)
	case n.Type == "socket":
		return fmt.Errorf("%s is a socket, and the processes are in the service that it starts: name that, of a socket with Accept=yes the template %s", unit, unitname.Name{Prefix: n.Prefix, Type: "service", Template: true})
	case n.Type != "service":
		return fmt.Errorf("%s is not a service: write it like billing.service, or worker@1.service for the instance of a template", unit)
	}
	return nil
}

// Load reads the files of a service below root, which is "/" on a running machine. A name without
// its type is that of a service, an alias is followed to the unit, and a template stands for all
// its instances. A file of more than 1 MiB is an error.
func Load(root, unit string) (*Service, error) {
	unit = Complete(unit)
	if err := CheckName(unit); err != nil {
		return nil, err
	}
	x, err := scan(root)
	if err != nil {
		return nil, err
	}
	m, err := x.find(unit)
	if err != nil {
		return nil, x.suggest(unit, err)
	}
	if err := CheckName(m.id); err != nil {
		return nil, err
	}
	s := &Service{root: root, Name: m.id, Asked: unit, usual: usualStart(root), aliases: len(m.names) > 1, Transient: filepath.Dir(m.path) == transientFolder, other: map[string]bool{}}
	if s.unit, err = unitname.Parse(m.id); err != nil {
		return nil, err
	}
	masked, err := masked(root, m.path)
	if err == nil && masked {
		err = fmt.Errorf("%s: %w", m.path, ErrMasked)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range append([]string{m.path}, m.dropIns...) {
		if err := s.add(root, f); err != nil {
			return nil, err
		}
	}
	s.RootChanged = firstOf(s.other)
	if s.PerCall, err = x.perCall(s.unit); err != nil {
		return nil, err
	}
	return s, nil
}

// add reads one of the unit's files. A drop-in that is masked says nothing.
func (s *Service) add(root, file string) error {
	if masked, err := masked(root, file); err != nil || masked {
		return err
	}
	b, err := readFile(root, file)
	if err != nil {
		return err
	}
	s.Files = append(s.Files, file)
	if strings.HasPrefix(string(b), first+"\n") {
		return nil // it says what this package made of the other files
	}
	return s.read(file, string(b))
}

// suggest adds the template to the error about a name that has no unit file.
func (x *index) suggest(unit string, err error) error {
	n, wrong := unitname.Parse(unit)
	if wrong != nil || n.Template || n.Instance != "" {
		return err
	}
	n.Template = true
	if _, none := x.follow(n.String()); none == nil {
		return fmt.Errorf("%w; %s is a template: name it, or an instance like %s@1.%s", err, n, n.Prefix, n.Type)
	}
	return err
}

// masked reports whether the file at path takes the unit out of use: it is empty, or a link to
// /dev/null, which an image need not have.
func masked(root, path string) (bool, error) {
	full, err := filepath.Abs(root)
	if err != nil {
		return false, err
	}
	at, err := securejoin.SecureJoin(full, path)
	if errors.Is(err, unix.ELOOP) {
		err = fmt.Errorf("%s: %w: its links lead in a circle", path, ErrNoUnit)
	}
	if err != nil {
		return false, err
	}
	if at == filepath.Join(full, "/dev/null") {
		return true, nil
	}
	info, err := os.Stat(at)
	return err == nil && (info.Mode().IsRegular() && info.Size() == 0 || info.Mode()&os.ModeDevice != 0), err
}

// perCall returns the socket that starts an instance of the template of n for each connection.
func (x *index) perCall(n unitname.Name) (string, error) {
	if !n.Template && n.Instance == "" {
		return "", nil
	}
	socket := unitname.Name{Prefix: n.Prefix, Type: "socket"}.String()
	m, err := x.find(socket)
	if errors.Is(err, ErrNoUnit) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if hidden, err := masked(x.root, m.path); err != nil || hidden {
		return "", nil // it starts nothing
	}
	accept := false
	for _, f := range append([]string{m.path}, m.dropIns...) {
		if masked, err := masked(x.root, f); err != nil || masked {
			continue
		}
		b, err := readFile(x.root, f)
		if err != nil {
			return "", err
		}
		settings(string(b), "[Socket]", func(key, value string) error {
			if key == "Accept" {
				accept = truth(value)
			}
			return nil
		})
	}
	if !accept {
		return "", nil
	}
	return socket, nil
}

func readFile(root, path string) ([]byte, error) {
	full, err := Within(root, path)
	if err != nil {
		return nil, err
	}
	b, err := durable.ReadRegular(full, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", full, durable.Cause(err))
	}
	return b, nil
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
	return settings(text, "[Service]", func(key, value string) error {
		if err := s.set(key, value); err != nil {
			return fmt.Errorf("%s: %s=%s: %w", file, key, value, err)
		}
		return nil
	})
}

// settings calls set for each setting of a section.
func settings(text, section string, set func(key, value string) error) error {
	in := ""
	for line := range joined(text) {
		switch {
		case line == "":
			continue
		case line[0] == '[':
			in = line
			continue
		case in != section:
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		if err := set(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

// truth reads a boolean of systemd.
func truth(s string) bool {
	return slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(s))
}

// otherFiles are the settings by which a unit sees other files than the agent.
var otherFiles = []string{"RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths", "MountImages", "ExtensionImages", "ExtensionDirectories"}

func firstOf(set map[string]bool) string {
	for _, key := range otherFiles {
		if set[key] {
			return key
		}
	}
	return ""
}

func (s *Service) set(key, value string) (err error) {
	switch {
	case key == "User" && value == "":
		s.User = ""
	case key == "User":
		if s.User, err = expand(value, s.unit, s.aliases); err == nil && !userName(s.User) {
			err = fmt.Errorf("systemd takes %q for no name of a user, and goes on without it: %w", s.User, errByHand)
		}
	case key == "TimeoutStartSec" || key == "TimeoutSec":
		if d, ok := timeout(value); ok || value == "" {
			s.start = d // systemd passes over what it cannot read
		}
	case key == "Type":
		s.oneshot = value == "oneshot"
	case key == "DynamicUser":
		s.DynamicUser = truth(value)
	case (key == "SetCredential" || key == "SetCredentialEncrypted") && value == "":
		s.Fallbacks = nil
	case key == "SetCredential" || key == "SetCredentialEncrypted":
		name, _, _ := strings.Cut(value, ":")
		s.Fallbacks = append(s.Fallbacks, strings.Trim(name, `"'`))
	case slices.Contains(otherFiles, key):
		s.other[key] = value != ""
	case key == "ExecStart" && value == "":
		s.Commands = nil
	case key == "ExecStart":
		s.Commands, err = s.commands(s.Commands, value)
	default:
		s.setFurther(key, value)
	}
	return err
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

// userName reports whether systemd takes s as a user (valid_user_group_name of
// src/basic/user-util.c, as units are read).
func userName(s string) bool {
	if s == "" || s == "." || s == ".." || strings.ContainsAny(s, ":/") || strings.TrimSpace(s) != s {
		return false
	}
	if strings.Trim(strings.TrimPrefix(s, "-"), "0123456789") == "" { // a number
		n, err := strconv.ParseUint(s, 10, 32)
		return err == nil && strconv.FormatUint(n, 10) == s && n != 1<<32-1 && n != 1<<16-1
	}
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// commands appends the commands of a value of ExecStart= to those of before.
func (s *Service) commands(out []Command, value string) ([]Command, error) {
	all, err := commands(value)
	if err != nil {
		return out, err
	}
	for i, line := range all {
		if len(line) == 0 && i > 0 && i == len(all)-1 {
			break // after a last ";"
		}
		c, err := s.command(line)
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

// command reads the words of one command.
func (s *Service) command(line []string) (Command, error) {
	if len(line) == 0 {
		return Command{}, errors.New("it names no program")
	}
	name := strings.TrimLeft(line[0], "@-:+!|")
	prefix := line[0][:len(line[0])-len(name)]
	args := line[1:]
	if strings.Contains(prefix, "@") && len(args) > 0 {
		args = args[1:] // the first is only the name that the program is told
	}
	if strings.Contains(prefix, "|") {
		return Command{}, fmt.Errorf("the shell of the user runs it: %w", errByHand)
	}
	if strings.HasPrefix(name, "$") {
		return Command{}, fmt.Errorf("a variable names the program: %w", errByHand)
	}
	program, err := expand(name, s.unit, s.aliases)
	switch {
	case err != nil:
		return Command{}, err
	case program == "":
		return Command{}, errors.New("it names no program")
	case strings.HasSuffix(program, "/"):
		return Command{}, errors.New("it names a directory and not a program")
	case strings.ContainsAny(program, "\\\"'"):
		return Command{}, fmt.Errorf("systemd starts no program with quotes or backslashes in its name: %w", errByHand)
	case strings.ContainsRune(program, '/') && !filepath.IsAbs(program):
		return Command{}, errors.New("the program's path is not absolute")
	}
	return Command{Program: filepath.Clean(program), Args: args}, nil
}

// Programs returns the programs that the service starts, each once.
func (s *Service) Programs() []string {
	var out []string
	for _, c := range s.Commands {
		if !slices.Contains(out, c.Program) {
			out = append(out, c.Program)
		}
	}
	return out
}
