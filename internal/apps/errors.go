// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"time"
)

// ErrUnknownApp is returned for a name that no declaration bears.
var ErrUnknownApp = errors.New("no such app is declared")

// A DeclarationError says where a declaration is wrong.
type DeclarationError struct {
	File    string // path of the file or directory
	Line    int    // from 1; 0 where the file as a whole is meant
	Column  int    // in bytes, from 1
	Problem string
}

func (e *DeclarationError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Problem
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Problem)
}

// A FileError says which file of an app could not be measured. Its text holds
// nothing that varies between two attempts, since it goes into the log once for
// each distinct text.
type FileError struct {
	Path    string
	Problem string // what was found and what to do
	Err     error  // from the system, or nil
}

func (e *FileError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s %q: %v", e.Problem, e.Path, e.Err)
	}
	return fmt.Sprintf("%q: %s", e.Path, e.Problem)
}

func (e *FileError) Unwrap() error { return e.Err }

// A ChangedError says that a file did not hold still while it was hashed.
type ChangedError struct{ Path string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%q changed while it was hashed: replace files by renaming new ones over them", e.Path)
}

// A RateError says that an app changes too often for the log to follow. The agent
// measures it again by itself when Retry has passed.
type RateError struct {
	App   string
	Retry time.Duration
}

func (e *RateError) Error() string {
	return fmt.Sprintf("app %s changed too often, its next measurement is recorded in %s", e.App, e.Retry.Round(time.Second))
}

// A RecordError says that a measurement could not be recorded. Nothing is claimed
// of an app whose measurement is not in the log.
type RecordError struct {
	App string
	Err error // from the Recorder
}

func (e *RecordError) Error() string { return fmt.Sprintf("record app %s: %v", e.App, e.Err) }
func (e *RecordError) Unwrap() error { return e.Err }
