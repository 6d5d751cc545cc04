// SPDX-License-Identifier: Apache-2.0

// Package declaration reads what an administrator or a package says of an app: the systemd
// unit and user that it runs as, and the files that it is made of. An app is one TOML file
// in a directory apps.d; docs/apps.md specifies the format.
package declaration

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
)

// A Declaration says what one app is: the user that it runs as, and what it is made of.
type Declaration struct {
	Name        string          // file name without ".toml"
	File        string          // path it was read from
	Unit        string          // systemd system unit
	User        string          // as written: name or decimal uid
	UID         uint32          // User, resolved when the declaration was read
	Files       []string        // absolute, clean paths; links are followed and recorded
	Directories []string        // absolute, clean paths, read recursively
	Exclude     []string        // patterns of names in Directories that are left out
	Digest      evidence.Digest // SHA-256 of the exact bytes of the file
}

// document is the declaration as TOML (version 1.0.0).
type document struct {
	Unit        string   `toml:"unit"`
	User        string   `toml:"user"`
	Files       []string `toml:"files"`
	Directories []string `toml:"directories"`
	Exclude     []string `toml:"exclude"`
}

// LookupUser finds the uid of a user name.
type LookupUser func(name string) (uint32, error)

// Parse reads the declaration of app name from b, the exact content of
// file. Unknown, repeated or differently-cased keys, wrong types and values without a
// meaning are a [*Error] with line and column.
func Parse(name, file string, b []byte, lookup LookupUser) (*Declaration, error) {
	if err := checkAppName(name); err != nil {
		return nil, &Error{File: file, Problem: err.Error()}
	}
	var doc document
	places, err := stricttoml.Decode(b, MaxDeclaration, &doc)
	if err != nil {
		return nil, inFile(file, err)
	}
	d := &Declaration{
		Name: name, File: file, Unit: doc.Unit, User: doc.User,
		Files: doc.Files, Directories: doc.Directories, Exclude: doc.Exclude,
		Digest: sha256.Sum256(b),
	}
	if err := d.check(places, lookup); err != nil {
		return nil, inFile(file, err)
	}
	return d, nil
}

// inFile returns an error about the text of a file as a [*Error].
func inFile(file string, err error) error {
	var at *stricttoml.Error
	if !errors.As(err, &at) {
		return &Error{File: file, Problem: err.Error()}
	}
	problem := at.Message
	if at.Key != "" {
		problem = at.Key + ": " + problem
	}
	return &Error{File: file, Line: at.Line, Column: at.Column, Problem: problem}
}

// check reports the first value that is not allowed, and resolves the user.
func (d *Declaration) check(places *stricttoml.Places, lookup LookupUser) error {
	if err := checkUnit(d.Unit); err != nil {
		return places.Errorf("unit", "%v", err)
	}
	uid, err := resolveUser(d.User, lookup)
	if err != nil {
		return places.Errorf("user", "%v", err)
	}
	d.UID = uid
	for _, list := range []struct {
		key    string
		values []string
		check  func(string) error
	}{
		{"files", d.Files, checkPath("the root directory is not a file")},
		{"directories", d.Directories, checkPath("the root directory cannot be an app: name the directories that make it up")},
		{"exclude", d.Exclude, d.checkPattern},
	} {
		if len(list.values) > MaxListed {
			return places.Errorf(list.key, "%d elements, at most %d", len(list.values), MaxListed)
		}
		seen := make(map[string]bool, len(list.values))
		for i, v := range list.values {
			err := list.check(v)
			if err == nil && seen[v] {
				err = fmt.Errorf("%q is listed twice", v)
			}
			if err != nil {
				return places.Errorf(fmt.Sprintf("%s[%d]", list.key, i), "%v", err)
			}
			seen[v] = true
		}
	}
	if len(d.Files)+len(d.Directories) == 0 {
		return errors.New("neither files nor directories: an app without content cannot be measured")
	}
	return nil
}

// An Error says where a declaration is wrong.
type Error struct {
	File    string // path of the file or directory
	Line    int    // from 1; 0 for the file as a whole
	Column  int    // in bytes, from 1
	Problem string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Problem
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Problem)
}

// Limits on what a declaration may ask the agent to do. Only root declares apps, but any
// user may be able to write the files that a declaration names.
const (
	MaxApps           = 256      // declared apps
	MaxDeclaration    = 64 << 10 // bytes of one declaration file
	MaxDirectoryNames = 4096     // names in one apps.d, declarations or not
	MaxListed         = 4096     // elements of files, directories or exclude

	maxAppName = 128 // bytes
)
