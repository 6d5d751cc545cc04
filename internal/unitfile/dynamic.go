// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

// An identity is what RunsAs found.
type identity struct {
	user    string
	dynamic bool
	err     error
}

// RunsAs returns the user that the declaration of the service must name, and whether that is a
// dynamic one. It looks once: what is shown of a unit and what is written are the same.
func (s *Service) RunsAs() (user string, dynamic bool, err error) {
	if s.as == nil {
		user, dynamic, err := s.runsAs()
		s.as = &identity{user, dynamic, err}
	}
	return s.as.user, s.as.dynamic, s.as.err
}

// runsAs works that out. Without User= a unit with DynamicUser= has the part of its name before "@"
// or its type; if there is a user of that name, systemd takes that user (systemd.exec(5)).
func (s *Service) runsAs() (user string, dynamic bool, err error) {
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

// ErrNoUser is returned for a user that /etc/passwd does not have.
var ErrNoUser = errors.New("does not exist")

// UID returns the uid that /etc/passwd of root has for a user. A user may be named by a number too.
func UID(root, user string) (uint32, error) {
	if n, err := strconv.ParseUint(user, 10, 32); err == nil {
		return uint32(n), nil
	}
	b, err := readFile(root, "/etc/passwd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[0] == user {
			n, err := strconv.ParseUint(f[2], 10, 32)
			if err != nil {
				return 0, fmt.Errorf("uid of user %q in /etc/passwd: %w", user, err)
			}
			return uint32(n), nil
		}
	}
	return 0, fmt.Errorf("user %q %w", user, ErrNoUser)
}

// hasUser reports whether a user is in /etc/passwd of root, or is named by a number.
func hasUser(root, user string) (bool, error) {
	_, err := UID(root, user)
	if errors.Is(err, ErrNoUser) {
		return false, nil
	}
	return err == nil, err
}
