// SPDX-License-Identifier: Apache-2.0

// Package flags refuses a flag of a command line that is given twice. Of two values the
// last one would count, in silence: an argument that a script appends would replace the
// policy, nonce or root of trust that a person reads at the beginning of the line.
package flags

import (
	"flag"
	"fmt"
	"slices"
)

// Value is the value of a flag, of package flag or of its relative pflag.
type Value interface {
	String() string
	Set(text string) error
}

// A Single is a flag's value that can be set once.
type Single struct {
	value Value
	set   bool
	text  string // as it was given
}

// Once returns v as a value that can be set once.
func Once(v Value) *Single {
	if s, ok := v.(*Single); ok {
		return s
	}
	return &Single{value: v}
}

// Set sets the value. The second time it returns an error with the first value; the library
// adds the name of the flag and the second value.
func (s *Single) Set(text string) error {
	if s.set {
		return fmt.Errorf("it was given before, as %q: give it once", s.text)
	}
	s.set, s.text = true, text
	return s.value.Set(text)
}

// String returns the value as text.
func (s *Single) String() string {
	if s == nil || s.value == nil { // package flag asks a zero value too
		return ""
	}
	return s.value.String()
}

// Type returns the name of the type, which pflag asks for.
func (s *Single) Type() string {
	if t, ok := s.value.(interface{ Type() string }); ok {
		return t.Type()
	}
	return ""
}

// IsBoolFlag reports whether the flag needs no value, which package flag asks for.
func (s *Single) IsBoolFlag() bool {
	b, ok := s.value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// AllOnce makes every flag of f one that can be given once, except lists.
func AllOnce(f *flag.FlagSet, lists ...string) {
	f.VisitAll(func(x *flag.Flag) {
		if !slices.Contains(lists, x.Name) {
			x.Value = Once(x.Value)
		}
	})
}
