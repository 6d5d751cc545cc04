// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

// RunsAs returns the user that the declaration of the service must name, and whether that is a
// dynamic one. Without User= a unit with DynamicUser= has the part of its name before "@" or its
// type; if there is a user of that name, systemd takes that user (systemd.exec(5)).
func (s *Service) RunsAs() (user string, dynamic bool, err error) {
	switch {
	case s.User == "root" || s.User == "" && !s.DynamicUser:
		return "root", false, nil
	case !s.DynamicUser:
		return s.User, false, nil
	case s.User == "":
		user = s.unit.Prefix
	default:
		user = s.User
	}
	static, err := hasUser(s.root, user)
	if err != nil || static {
		return user, false, err
	}
	if err := declaration.CheckDynamicUser(user); err != nil {
		if s.User != "" {
			return "", false, fmt.Errorf("%s sets DynamicUser= with User=%q, and %w", s.Name, user, err)
		}
		return "", false, fmt.Errorf("%s sets DynamicUser=, and systemd makes up a name for its user, since it cannot be %q: give it one with User=, of at most 31 letters, digits, _ and -", s.Name, user)
	}
	return user, true, nil
}

// hasUser reports whether /etc/passwd of root has a user, or the name is a number.
func hasUser(root, user string) (bool, error) {
	if strings.Trim(user, "0123456789") == "" {
		return true, nil
	}
	b, err := readFile(root, "/etc/passwd")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(line, ":"); ok && name == user {
			return true, nil
		}
	}
	return false, nil
}
