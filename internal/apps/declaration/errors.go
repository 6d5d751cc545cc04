// SPDX-License-Identifier: Apache-2.0

package declaration

import "fmt"

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
