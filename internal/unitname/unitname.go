// SPDX-License-Identifier: Apache-2.0

// Package unitname contains the one rule for names of systemd units. The rule is that of
// systemd itself (systemd.unit(5); unit_name_is_valid in src/basic/unit-name.c, the same
// since version 233):
//
//	name     = prefix "." type | prefix "@" [ instance ] "." type   at most 255 bytes
//	prefix   = 1*( letter / digit / ":" / "-" / "_" / "." / "\" )
//	instance = 1*( letter / digit / ":" / "-" / "_" / "." / "\" / "@" )
//
// The first "@" begins the instance, which may contain more of them, and the last "."
// begins the type. So "a@b@.service" is the instance "b@" of "a@.service". A name with
// nothing after its only "@" is that of a template, which itself never runs.
package unitname

import (
	"fmt"
	"slices"
	"strings"
)

// MaxLength is the longest name in bytes (UNIT_NAME_MAX of systemd, without its zero byte).
const MaxLength = 255

// types are the types of units (systemd.unit(5)).
var types = []string{"service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"}

// processTypes are the types whose units contain processes. A slice contains units.
var processTypes = []string{"service", "scope", "socket", "mount", "swap"}

// A Name is the name of a unit in its parts.
type Name struct {
	Prefix   string // "getty" of "getty@tty1.service"
	Instance string // "tty1"; empty of a template, and of a unit without "@"
	Type     string // "service"
	Template bool   // "getty@.service": the unit has no instance, but asks for one
}

// String returns the whole name.
func (n Name) String() string {
	if n.Template || n.Instance != "" {
		return n.Prefix + "@" + n.Instance + "." + n.Type
	}
	return n.Prefix + "." + n.Type
}

// TemplateOf returns the name of the template of an instance, and false for other names.
func (n Name) TemplateOf() (string, bool) {
	if n.Instance == "" {
		return "", false
	}
	return Name{Prefix: n.Prefix, Type: n.Type, Template: true}.String(), true
}

// Parse takes the name of a unit apart. The error says which part is wrong.
func Parse(s string) (Name, error) {
	if len(s) > MaxLength {
		return Name{}, fmt.Errorf("a unit name of %d bytes, want at most %d", len(s), MaxLength)
	}
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 || !slices.Contains(types, s[dot+1:]) {
		return Name{}, fmt.Errorf("%q is not the name of a unit: want a type at its end, such as .service", s)
	}
	for i := range dot {
		if !allowed(s[i]) {
			return Name{}, fmt.Errorf("%q is not the name of a unit: it contains %q, want letters, digits and :-_.\\@", s, s[i:i+1])
		}
	}
	prefix, instance, at := strings.Cut(s[:dot], "@")
	if prefix == "" {
		return Name{}, fmt.Errorf("%q is not the name of a unit: want a name before its type", s)
	}
	return Name{Prefix: prefix, Instance: instance, Type: s[dot+1:], Template: at && instance == ""}, nil
}

func allowed(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(`:-_.\@`, c) >= 0
}

// Declared parses the name of what an app can be declared for: a unit that processes can run in
// ([Running]), or a template of such units, which stands for all its instances.
func Declared(s string) (Name, error) {
	n, err := Parse(s)
	if err == nil && n.Template && slices.Contains(processTypes, n.Type) {
		return n, nil
	}
	return Running(s)
}

// Running parses the name of a unit that processes can run in: a service, scope, socket,
// mount or swap that is not a template.
func Running(s string) (Name, error) {
	n, err := Parse(s)
	switch {
	case err != nil:
		return Name{}, err
	case !slices.Contains(processTypes, n.Type):
		return Name{}, fmt.Errorf("%q does not end with .%s", s, strings.Join(processTypes, ", ."))
	case n.Template:
		return Name{}, fmt.Errorf("%q is a template: name the instance, as in %q", s, n.Prefix+"@1."+n.Type)
	}
	return n, nil
}

// Escape returns s as it stands in the name of a unit (systemd-escape(1)): a slash becomes a
// hyphen, and every byte that is not a letter, a digit or one of ":_." becomes \xNN, as does a dot
// at the beginning.
func Escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '-' || c == '\\' || c == '@' || c == '.' && i == 0 || !allowed(c):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
