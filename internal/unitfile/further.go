// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Settings of commands that run beside the program, with the privileges of the unit.
var besides = []string{"ExecCondition", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecReloadPost", "ExecStop", "ExecStopPost"}

// maxFurther is the number of values that are kept of each of the further settings. systemd has no
// such limit, and no unit comes near: what is beyond is named in words.
const maxFurther = 1024

// setFurther reads a setting that does not decide what ExecStart= starts. If it cannot be read,
// that is said in words, since systemd passes over most of what it cannot read.
func (s *Service) setFurther(key, value string) {
	var err error
	switch {
	case slices.Contains(besides, key):
		err = s.setBeside(key, value)
	case key == "Environment":
		s.Environment, err = s.words(s.Environment, value, s.Expand)
	case key == "EnvironmentFile":
		s.EnvironmentFiles, err = s.path(s.EnvironmentFiles, value)
	case key == "PassEnvironment":
		s.Passed, err = s.words(s.Passed, value, s.Expand)
	case key == "UnsetEnvironment":
		s.Unset, err = s.words(s.Unset, value, s.Expand)
	case key == "WorkingDirectory" && (value == "" || value == "~" || value == "-~"):
		s.Directory = strings.TrimPrefix(value, "-")
	case key == "WorkingDirectory":
		s.Directory, err = s.Expand(strings.TrimPrefix(value, "-"))
	case key == "ExecSearchPath" && value == "":
		s.SearchPath = nil
	case key == "ExecSearchPath":
		for dir := range strings.SplitSeq(value, ":") {
			if dir, err = s.Expand(dir); err == nil && filepath.IsAbs(dir) && len(s.SearchPath) < maxFurther {
				s.SearchPath = append(s.SearchPath, filepath.Clean(dir))
			}
		}
	}
	if err != nil && len(s.Unread) < maxFurther {
		s.Unread = append(s.Unread, fmt.Sprintf("%s=%s could not be read: %v", key, value, err))
	}
}

// setBeside reads the value of a setting of a command that runs beside the program.
func (s *Service) setBeside(key, value string) error {
	if value == "" {
		s.Beside = slices.DeleteFunc(s.Beside, func(b Beside) bool { return b.Setting == key })
		return nil
	}
	all, err := s.commands(nil, value)
	for _, c := range all {
		if len(s.Beside) == maxFurther {
			return fmt.Errorf("more than %d commands", maxFurther)
		}
		s.Beside = append(s.Beside, Beside{Setting: key, Command: c})
	}
	return err
}

// words appends the words of a value to those of before, which an empty value removes.
func (s *Service) words(before []string, value string, read func(string) (string, error)) ([]string, error) {
	if value == "" {
		return nil, nil
	}
	for value = strings.TrimLeft(value, blanks); value != ""; value = strings.TrimLeft(value, blanks) {
		w, n, err := word(value)
		if err == nil {
			w, err = read(w)
		}
		if err == nil && len(before) == maxFurther {
			err = fmt.Errorf("more than %d values", maxFurther)
		}
		if err != nil {
			return before, err
		}
		before, value = append(before, w), value[n:]
	}
	return before, nil
}

// path appends an absolute path or a pattern of one.
func (s *Service) path(before []string, value string) ([]string, error) {
	if value == "" {
		return nil, nil
	}
	path, err := s.Expand(strings.TrimPrefix(value, "-"))
	if err == nil && !filepath.IsAbs(path) {
		err = fmt.Errorf("%q is not absolute", path)
	}
	if err == nil && len(before) == maxFurther {
		err = fmt.Errorf("more than %d files", maxFurther)
	}
	if err != nil {
		return before, err
	}
	return append(before, filepath.Clean(path)), nil
}

// Expand replaces the specifiers of a value of the service. One that depends on the machine, or on
// the instance of a template, is an error.
func (s *Service) Expand(value string) (string, error) {
	return expand(value, s.unit, s.aliases)
}

// Template reports whether the service is a template, which stands for all its instances.
func (s *Service) Template() bool { return s.unit.Template }
