// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/cvm-agentd/agentd/pcr"
)

// Reference measures the app that a declaration in file describes, in the tree of
// files below root, and returns the event that the agent would record on a machine
// whose files are these. Nothing is recorded, and no agent is needed: a build
// publishes with it what its users' policies list. An empty root is this machine.
//
// The caller must be able to read every file, and the files must have the modes that
// they will have on the machine: those are part of the manifest. Owners are not.
// Declarations are taken whoever owns them, and users need not exist here.
func Reference(ctx context.Context, file, root string) (*pcr.AppEvent, error) {
	d, err := readDeclaration(file)
	if err != nil {
		return nil, err
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	s := scan{ctx: inner, stop: stop, declaration: d, slots: make(chan []byte, runtime.NumCPU()), settle: settleTime, see: func(string, string) {}}
	for range cap(s.slots) {
		s.slots <- nil
	}
	if root != "" {
		if s.root, err = openTree(root); err != nil {
			return nil, err
		}
		defer s.root.close()
	}
	f := finding{declaration: d}
	f.manifest, f.bytes, f.err = s.manifest()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	event, _ := f.event(d.Name)
	if f.err != nil {
		return nil, fmt.Errorf("measure %s: %w", d.Name, f.err)
	}
	return event.App, nil
}

// readDeclaration reads one declaration, which bears the name of its file.
func readDeclaration(file string) (*Declaration, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxDeclaration+1))
	if err != nil {
		return nil, err
	}
	name, ok := strings.CutSuffix(path.Base(file), suffix)
	if !ok {
		return nil, &DeclarationError{File: file, Problem: fmt.Sprintf("a declaration is called NAME%s, and NAME is the app's", suffix)}
	}
	anybody := func(string) (uint32, error) { return 1, nil } // the uid is in no event
	d, err := ParseDeclaration(name, file, b, anybody)
	if err == nil && len(b) == 0 {
		err = errors.New("empty: on a machine it would mask a declaration of the same name")
	}
	return d, err
}
