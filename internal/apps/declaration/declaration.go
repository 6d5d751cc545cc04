// SPDX-License-Identifier: Apache-2.0

// Package declaration reads what an administrator or a package says of an app: the systemd
// unit and user that it runs as, and the files that it is made of. An app is one TOML file
// in a directory apps.d; docs/apps.md specifies the format.
package declaration

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/pcr"
)

// A Declaration says what one app is: the user that it runs as, and what it is made of.
type Declaration struct {
	Name        string          // file name without ".toml"
	File        string          // path it was read from
	Unit        string          // systemd system unit, or a template, for all its instances
	User        string          // as written: name or decimal uid
	UID         uint32          // User, resolved when the declaration was read; [NoUID] of a dynamic one
	Dynamic     bool            // systemd gives User a uid at each start of the unit
	Users       pcr.AppUsers    // further users of the unit whose processes are the app, ascending by uid
	Files       []string        // absolute, clean paths; links are followed and recorded
	Directories []string        // absolute, clean paths, read recursively
	Exclude     []string        // patterns of names in Directories that are left out
	Gate        Gate            // what happens when a program of the app starts
	Image       string          // of a container: "sha256:" and its configuration digest, or its name; then there are no users and files, and Unit may be empty
	Engine      string          // that runs the container, one of evidence.Engines
	Digest      evidence.Digest // SHA-256 of the exact bytes of the file
}

// document is the declaration as TOML (version 1.0.0).
type document struct {
	Unit        string   `toml:"unit"`
	User        string   `toml:"user"`
	DynamicUser bool     `toml:"dynamic_user"`
	Users       []string `toml:"users"`
	Files       []string `toml:"files"`
	Directories []string `toml:"directories"`
	Exclude     []string `toml:"exclude"`
	Image       string   `toml:"image"`
	Engine      string   `toml:"engine"`
	Gate        any      `toml:"gate"`
}

// Gate says what happens when a program of an app starts (docs/gate.md).
type Gate string

// What happens.
const (
	NoGate      Gate = ""        // nothing: the key is absent, or false
	GateRecord  Gate = "record"  // true: what the manifest does not list is recorded first
	GateEnforce Gate = "enforce" // it does not start
)

// readGate reads the key gate.
func readGate(v any) (Gate, error) {
	switch v {
	case nil, false:
		return NoGate, nil
	case true:
		return GateRecord, nil
	case string(GateEnforce):
		return GateEnforce, nil
	}
	return NoGate, fmt.Errorf("%.40q is not one of true, false and %q", fmt.Sprint(v), GateEnforce)
}

// LookupUser finds the uid of a user name.
type LookupUser func(name string) (uint32, error)

// Parse reads the declaration of app name from b, the exact content of
// file. Unknown, repeated or differently-cased keys, wrong types and values without a
// meaning are a [*Error] with line and column.
func Parse(name, file string, b []byte, lookup LookupUser) (*Declaration, error) {
	if err := CheckName(name); err != nil {
		return nil, &Error{File: file, Problem: err.Error()}
	}
	var doc document
	places, err := stricttoml.Decode(b, MaxDeclaration, &doc)
	if err != nil {
		return nil, inFile(file, err)
	}
	d := &Declaration{
		Name: name, File: file, Unit: doc.Unit, User: doc.User, Dynamic: doc.DynamicUser,
		Files: doc.Files, Directories: doc.Directories, Exclude: doc.Exclude,
		Digest: sha256.Sum256(b),
	}
	if places.Given("image") || places.Given("engine") {
		if err := d.container(&doc, places); err != nil {
			return nil, inFile(file, err)
		}
		return d, nil
	}
	if err := d.resolveUsers(doc.Users, places, lookup); durable.Short(err) {
		return nil, fmt.Errorf("look up the users of %s: %w", file, err) // says nothing about the file
	} else if err != nil {
		return nil, inFile(file, err)
	}
	if err := d.check(places); err != nil {
		return nil, inFile(file, err)
	}
	if d.Gate, err = readGate(doc.Gate); err != nil {
		return nil, inFile(file, places.Errorf("gate", "%v", err))
	}
	return d, nil
}

// resolveUsers looks up the user and the further users.
func (d *Declaration) resolveUsers(further []string, places *stricttoml.Places, lookup LookupUser) error {
	if err := checkUnit(d.Unit); err != nil {
		return places.Errorf("unit", "%v", err)
	}
	if d.Dynamic {
		return d.resolveDynamic(further, places)
	}
	uid, err := resolveUser(d.User, lookup)
	if durable.Short(err) {
		return err
	}
	if err != nil {
		return places.Errorf("user", "%v", err)
	}
	d.UID = uid
	if len(further) > pcr.MaxAppUsers {
		return places.Errorf("users", "%d elements, at most %d", len(further), pcr.MaxAppUsers)
	}
	for i, name := range further {
		uid, err := resolveUser(name, lookup)
		if durable.Short(err) {
			return err
		}
		if err == nil && (uid == d.UID || d.Users.Has(uid)) {
			err = fmt.Errorf("user %q is listed twice", name)
		}
		if err != nil {
			return places.Errorf(fmt.Sprintf("users[%d]", i), "%v", err)
		}
		d.Users = append(d.Users, pcr.AppUser{User: name, UID: uid})
	}
	slices.SortFunc(d.Users, func(a, b pcr.AppUser) int { return cmp.Compare(a.UID, b.UID) })
	return nil
}

// HasUser reports whether processes of a user are the app, in its unit.
func (d *Declaration) HasUser(uid uint32) bool { return d.UID == uid || d.Users.Has(uid) }

// inFile returns an error about the text of a file as a [*Error].
func inFile(file string, err error) error {
	at, ok := errors.AsType[*stricttoml.Error](err)
	if !ok {
		return &Error{File: file, Problem: err.Error()}
	}
	problem := at.Message
	if at.Key != "" {
		problem = at.Key + ": " + problem
	}
	return &Error{File: file, Line: at.Line, Column: at.Column, Problem: problem}
}

// check reports the first file or directory that is not allowed.
func (d *Declaration) check(places *stricttoml.Places) error {
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

// CheckName checks the name of an application. It allows letters, digits, '-', '_' and '.', as in
// "billing" or "billing-worker". The name enters log, evidence and policies.
func CheckName(s string) error {
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

// checkUnit checks that s is the name of a system unit that an app can run in, or of a template.
func checkUnit(s string) error {
	if s == "" {
		return errors.New("missing: name the system unit that the app runs as")
	}
	_, err := unitname.Declared(s)
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
	if pcr.DynamicUID(uid) {
		return 0, fmt.Errorf("systemd gives uid %d to one unit after the other: if the unit has DynamicUser=, write the name and dynamic_user = true", uid)
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
	if !text.Shown(s) {
		return fmt.Errorf("%+q contains control characters, invisible characters, spaces other than U+0020, or invalid UTF-8", s)
	}
	return nil
}
