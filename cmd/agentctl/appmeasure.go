// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

// measureOnce makes the agent read the declarations and measure one application, as its
// unit will do before each start. A drop-in for an application that the agent does not
// know, or cannot measure, would keep the unit from starting.
func (t *terminal) measureOnce(ctx context.Context, agent *client.Admin, d *declaration.Declaration) error {
	const nothing = "nothing was written: "
	reloaded, err := agent.Reload(ctx)
	if err != nil {
		x := failed(err)
		x.err = fmt.Errorf("%sthe agent cannot read the declaration, and %s would not start: %w", nothing, d.Unit, err)
		return x
	}
	// Another declaration that is wrong does not matter here: `app reload` shows it.
	for _, e := range reloaded.Errors {
		if e.Source == d.File {
			return misuse(fmt.Errorf("%sthe agent refuses the declaration, and %s would not start: %s", nothing, d.Unit, e.Reason))
		}
	}
	a, err := agent.Measure(ctx, d.Name)
	if err != nil {
		x := failed(err)
		x.err = fmt.Errorf("%s%s cannot be measured, and %s would not start: %w", nothing, d.Name, d.Unit, err)
		return x
	}
	if a.Unit != d.Unit {
		return misuse(fmt.Errorf("%sthe agent knows %s as the application of %q, from %s, and not of %s: its configuration names other folders than this command found",
			nothing, d.Name, a.Unit, a.Source, d.Unit))
	}
	fmt.Fprintf(t.out, "%s measured: %s, digest %s\n", cleanLine(a.Name), count(int(a.Files), "file"), digestOf(a))
	return nil
}
