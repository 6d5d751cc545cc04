// SPDX-License-Identifier: Apache-2.0

package manifest

import "fmt"

// A FileError says which file of an app could not be measured. Its text contains
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

// A ChangedError says that a file changed while it was hashed.
type ChangedError struct{ Path string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%q changed while it was hashed: replace files by renaming new ones over them", e.Path)
}
