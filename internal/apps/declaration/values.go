// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// checkAppName allows letters, digits, '-', '_' and '.', as in "billing" or
// "billing-worker". The name enters log, evidence and policies.
func checkAppName(s string) error {
	if s == "" || len(s) > maxAppName {
		return fmt.Errorf("app name of %d bytes, want 1 to %d", len(s), maxAppName)
	}
	if s[0] == '.' || s[0] == '-' {
		return fmt.Errorf("app name %q begins with %q", s, s[:1])
	}
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && !strings.ContainsRune("-_.", rune(s[i])) {
			return fmt.Errorf("app name %q contains %q: want letters, digits, '-', '_', '.'", s, s[i:i+1])
		}
	}
	return nil
}

// checkUnit checks that s is the name of a system unit that an app can run in.
func checkUnit(s string) error {
	if s == "" {
		return errors.New("missing: name the system unit that the app runs as")
	}
	_, err := unitname.Running(s)
	return err
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// unspecific are the uids of no particular user: the kernel's overflow uid, under which all
// users that a namespace does not map appear, and -1 in 16 and 32 bits.
var unspecific = []uint32{65534, 1<<16 - 1, 1<<32 - 1}

// resolveUser returns the uid of a user name or a decimal uid.
func resolveUser(s string, lookup LookupUser) (uint32, error) {
	if s == "" {
		return 0, errors.New(`missing: name the user that the unit runs as, "root" if it names none`)
	}
	if err := CheckText(s, 256); err != nil {
		return 0, err
	}
	uid, err := decimalUID(s)
	if errors.Is(err, strconv.ErrSyntax) {
		uid, err = lookup(s)
	}
	if err != nil {
		return 0, fmt.Errorf("user %q is not known: create the user, then reload (%w)", s, err)
	}
	if slices.Contains(unspecific, uid) {
		return 0, fmt.Errorf("uid %d is not that of one particular user", uid)
	}
	return uid, nil
}

func decimalUID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("want a decimal number without leading zeros")
	}
	return uint32(n), err
}

// checkPath returns a check that allows absolute paths without "." and "..", doubled or
// trailing slashes, outside the file systems whose files are not content. NotRoot says why
// "/" is refused.
func checkPath(notRoot string) func(string) error {
	return func(s string) error {
		if err := CheckText(s, evidence.MaxPath); err != nil {
			return err
		}
		if !strings.HasPrefix(s, "/") {
			return fmt.Errorf("path %q is not absolute", s)
		}
		if c := path.Clean(s); c != s {
			return fmt.Errorf("path %q is not clean, want %q", s, c)
		}
		for _, dir := range []string{"/proc", "/sys", "/dev"} {
			if s == dir || strings.HasPrefix(s, dir+"/") {
				return fmt.Errorf("path %q is in %s, whose files do not keep their content", s, dir)
			}
		}
		if s == "/" {
			return errors.New(notRoot)
		}
		return nil
	}
}

// checkPattern allows patterns of path.Match: with a leading slash for a whole
// path, without any slash for a name at every depth.
func (d *Declaration) checkPattern(s string) error {
	if err := CheckText(s, evidence.MaxPath); err != nil {
		return err
	}
	if s == "" || !strings.HasPrefix(s, "/") && strings.Contains(s, "/") {
		return fmt.Errorf("pattern %q is neither a name nor an absolute path", s)
	}
	if _, err := path.Match(s, ""); err != nil {
		return fmt.Errorf("pattern %q: a '[' or '\\' is not completed", s)
	}
	for _, dir := range d.Directories {
		if matches(s, dir) {
			return fmt.Errorf("pattern %q leaves out the whole declared directory %q", s, dir)
		}
	}
	if len(d.Directories) == 0 {
		return fmt.Errorf("pattern %q without directories: files are named one by one", s)
	}
	return nil
}

// Excludes reports whether a pattern of d leaves p out.
func (d *Declaration) Excludes(p string) bool {
	return slices.ContainsFunc(d.Exclude, func(pattern string) bool { return matches(pattern, p) })
}

func matches(pattern, p string) bool {
	if !strings.HasPrefix(pattern, "/") {
		p = path.Base(p)
	}
	ok, err := path.Match(pattern, p)
	return ok && err == nil
}

// CheckText refuses text that could be mistaken on a screen, or is too long to be recorded.
func CheckText(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%d bytes, at most %d", len(s), limit)
	}
	if !text.Plain(s) {
		return fmt.Errorf("%+q contains control characters, invisible characters, spaces other than U+0020, or invalid UTF-8", s)
	}
	return nil
}
