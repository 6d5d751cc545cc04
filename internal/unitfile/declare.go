// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/cvm-agentd/agentd/internal/text"
)

// Contents are the files and folders of an application, as its declaration lists them.
type Contents struct {
	Groups      []Group  // files
	Directories []string // with everything below them
	Exclude     []string // patterns of what is left out of the folders
	Notes       []string // what the declaration does not cover, in words
}

// A Group is files with what they have in common.
type Group struct {
	Title string
	Files []string
}

// Declarable refuses a unit that cannot be an application, or that sees other files than the agent.
func (s *Service) Declarable() error {
	if err := s.returns(); err != nil {
		return err
	}
	if _, _, err := s.RunsAs(); err != nil {
		return err
	}
	if s.RootChanged != "" {
		return fmt.Errorf("%s sets %s=, so it sees other files than the agent: write the declaration by hand, and read \"What is covered\" in docs/apps.md", s.Name, s.RootChanged)
	}
	if len(s.Commands) == 0 {
		return fmt.Errorf("%s has no ExecStart=", s.Name)
	}
	return nil
}

// Declaration returns the declaration of the service as an application with these contents. Notes
// become comments: the name of a file must not end one, and begin a key. Paths that cannot be shown
// are refused when the declaration is read.
func (s *Service) Declaration(c *Contents) ([]byte, error) {
	if err := s.Declarable(); err != nil {
		return nil, err
	}
	if len(c.Groups)+len(c.Directories) == 0 {
		return nil, errors.New("nothing to declare")
	}
	user, dynamic, err := s.RunsAs()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Derived from %s. Add what else the program runs, loads or is configured by.\n", s.Name)
	if s.Asked != s.Name {
		fmt.Fprintf(&b, "# It was asked for as %s, which is another name of this unit.\n", s.Asked)
	}
	if s.unit.Template {
		b.WriteString("# The unit is a template: every instance of it is this application.\n")
	}
	if dynamic {
		b.WriteString("# systemd gives the user a uid at each start. Other units with that name of a user have the same\n# uid while they run, and can look into the processes of this one: give no other unit the name.\n")
	}
	if user == "root" {
		b.WriteString("# Processes of the unit under another user than root are outside the application. If they belong to\n# it, such as workers, name their users: users = [\"www-data\"].\n")
	}
	for _, n := range c.Notes {
		if !text.Shown(n) {
			n = strconv.QuoteToASCII(n)
		}
		fmt.Fprintf(&b, "# %s.\n", n)
	}
	// Strings of Go that can be shown are strings of TOML.
	fmt.Fprintf(&b, "unit = %q\nuser = %q\n", s.Name, user)
	if dynamic {
		b.WriteString("dynamic_user = true\n")
	}
	if len(c.Groups) > 0 {
		b.WriteString("files = [\n")
		for _, g := range c.Groups {
			if len(c.Groups) > 1 {
				fmt.Fprintf(&b, "  # %s\n", g.Title)
			}
			for _, f := range g.Files {
				fmt.Fprintf(&b, "  %q,\n", f)
			}
		}
		b.WriteString("]\n")
	}
	writeList(&b, "directories", c.Directories)
	writeList(&b, "exclude", c.Exclude)
	return b.Bytes(), nil
}

func writeList(b *bytes.Buffer, key string, values []string) {
	if len(values) == 0 {
		return
	}
	fmt.Fprintf(b, "%s = [\n", key)
	for _, v := range values {
		fmt.Fprintf(b, "  %q,\n", v)
	}
	b.WriteString("]\n")
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
