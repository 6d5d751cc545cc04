// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// writeOutput writes a whole file, or standard output for "-" and "". A file appears
// complete or not at all; what is no file, such as /dev/null or a pipe, is written to
// and stays what it is.
func (t *terminal) writeOutput(name string, b []byte) error {
	if name == "" || name == "-" {
		return t.writeStandardOutput(b)
	}
	mode := fs.FileMode(0o666) // less what the user's umask takes
	switch at, err := os.Stat(name); {
	case err == nil && at.IsDir():
		return misuse(fmt.Errorf("write %s: it is a directory", name))
	case err == nil && !at.Mode().IsRegular():
		return misuseIf(os.WriteFile(name, b, mode))
	case err == nil:
		// Through a link to the file itself, so that the link stays too.
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return misuse(err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return misuse(fmt.Errorf("write %s: %w", name, unwrapPath(err)))
	}
	return misuseIf(durable.WriteFile(name, b, mode))
}

// writeSecretOutput writes b as it is to standard output, or to a file that only its
// owner may read, which appears complete or not at all. A secret goes through no link and
// into no device or pipe: somebody else may have put it there.
func (t *terminal) writeSecretOutput(name string, b []byte) error {
	if name == "" || name == "-" {
		return t.writeStandardOutput(b)
	}
	if at, err := os.Lstat(name); err == nil && !at.Mode().IsRegular() {
		return misuse(fmt.Errorf("write %s: something is there that is no file", name)).withHint("--out - writes to standard output")
	}
	return misuseIf(durable.WriteFile(name, b, 0o600))
}

// writeStandardOutput writes bytes that somebody asked for as they are. On a terminal
// that is only done where they are text.
func (t *terminal) writeStandardOutput(b []byte) error {
	if t.screen && !printable(b) {
		return misuse(errBinary)
	}
	_, err := t.out.Write(b)
	return err
}

// unwrapPath is err without the name of a file that nobody asked for.
func unwrapPath(err error) error {
	if x, ok := errors.AsType[*fs.PathError](err); ok {
		return x.Err
	}
	if x, ok := errors.AsType[*os.LinkError](err); ok {
		return x.Err
	}
	return err
}

// writeJSON prints v, indented, for machines and for those who read them: all that does
// not print is escaped.
func (t *terminal) writeJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return misuse(err)
	}
	_, err = t.out.Write(append(onlyPrintable(b), '\n'))
	return err
}
