// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"fmt"
	"runtime"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/pcr"
)

// Reference measures the app that a declaration in file describes, in the tree of
// files below root, and returns the event that the agent would record on a machine
// whose files are these. Nothing is recorded, and no agent is needed: a build
// publishes with it what its users' policies list. An empty root is this machine.
//
// The caller must be able to read every file, and the files must have the modes that
// they will have on the machine: those are part of the manifest. Owners are not.
// Declarations may have any owner, and users need not exist here.
func Reference(ctx context.Context, file, root string) (*pcr.AppEvent, error) {
	d, err := declaration.Read(file)
	if err != nil {
		return nil, err
	}
	var tree *tree
	if root != "" {
		if tree, err = openTree(root); err != nil {
			return nil, err
		}
		defer tree.close()
	}
	entries, _, err := NewReader(runtime.NumCPU(), SettleTime).read(ctx, d, tree, nil, func(string, string) {})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err == nil {
		var e *pcr.AppEvent
		if e, err = Event(d, entries); err == nil {
			return e, nil
		}
	}
	return nil, fmt.Errorf("measure %s: %w", d.Name, err)
}
