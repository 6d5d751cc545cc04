// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"

	"github.com/cvm-agentd/agentd/evidence"
)

// A Declaration says what one app is: whom it runs as and what it is made of.
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

// ParseDeclaration reads the declaration of app name from b, the exact content of
// file. Unknown, repeated or differently-cased keys, wrong types and values that
// mean nothing are a [*DeclarationError] with line and column.
func ParseDeclaration(name, file string, b []byte, lookup LookupUser) (*Declaration, error) {
	if err := checkAppName(name); err != nil {
		return nil, &DeclarationError{File: file, Problem: err.Error()}
	}
	if len(b) > MaxDeclaration {
		return nil, &DeclarationError{File: file, Problem: fmt.Sprintf("declaration of more than %d bytes", MaxDeclaration)}
	}
	at, err := locate(file, b)
	if err != nil {
		return nil, err
	}
	var doc document
	if err := toml.Unmarshal(b, &doc); err != nil {
		return nil, decodeError(file, err)
	}
	d := &Declaration{
		Name: name, File: file, Unit: doc.Unit, User: doc.User,
		Files: doc.Files, Directories: doc.Directories, Exclude: doc.Exclude,
		Digest: sha256.Sum256(b),
	}
	if err := d.check(at, lookup); err != nil {
		return nil, err
	}
	return d, nil
}

// decodeError puts the library's error, which carries its position apart, into ours.
func decodeError(file string, err error) error {
	var at *toml.DecodeError
	if errors.As(err, &at) {
		line, column := at.Position()
		return &DeclarationError{File: file, Line: line, Column: column, Problem: at.Error()}
	}
	return &DeclarationError{File: file, Problem: err.Error()}
}

// check reports the first value that is not allowed, and resolves the user.
func (d *Declaration) check(at *positions, lookup LookupUser) error {
	if err := checkUnit(d.Unit); err != nil {
		return at.problem("unit", err)
	}
	uid, err := resolveUser(d.User, lookup)
	if err != nil {
		return at.problem("user", err)
	}
	d.UID = uid
	for _, list := range []struct {
		key    string
		values []string
		check  func(string) error
	}{
		{"files", d.Files, checkFile},
		{"directories", d.Directories, checkDirectory},
		{"exclude", d.Exclude, d.checkPattern},
	} {
		if len(list.values) > MaxListed {
			return at.problem(list.key, fmt.Errorf("%d elements, at most %d", len(list.values), MaxListed))
		}
		seen := make(map[string]bool, len(list.values))
		for i, v := range list.values {
			err := list.check(v)
			if err == nil && seen[v] {
				err = fmt.Errorf("%q is listed twice", v)
			}
			if err != nil {
				return at.element(list.key, i, err)
			}
			seen[v] = true
		}
	}
	if len(d.Files)+len(d.Directories) == 0 {
		return &DeclarationError{File: d.File, Problem: "neither files nor directories: an app without content cannot be measured"}
	}
	return nil
}
