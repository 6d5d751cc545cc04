// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/unitfile"
	"github.com/cvm-agentd/agentd/pcr"
)

// measureOnce makes the agent read the declarations and measure one application, as its
// unit will do before each start. A drop-in for an application that the agent does not
// know, or cannot measure, would keep the unit from starting. It returns the size of the
// application.
func (t *terminal) measureOnce(ctx context.Context, agent *client.Admin, d *declaration.Declaration) (bytes uint64, err error) {
	const nothing = "nothing was written: "
	reloaded, err := agent.Reload(ctx)
	if err != nil {
		x := failed(err)
		x.err = fmt.Errorf("%sthe agent cannot read the declaration, and %s would not start: %w", nothing, d.Unit, err)
		return 0, x
	}
	// Another declaration that is wrong does not matter here: `app reload` shows it.
	for _, e := range reloaded.Errors {
		if e.Source == d.File {
			return 0, misuse(fmt.Errorf("%sthe agent refuses the declaration, and %s would not start: %s", nothing, d.Unit, e.Reason))
		}
	}
	a, err := agent.Measure(ctx, d.Name)
	if err != nil {
		x := failed(err)
		x.err = fmt.Errorf("%s%s cannot be measured, and %s would not start: %w", nothing, d.Name, d.Unit, err)
		return 0, x
	}
	if a.Unit != d.Unit {
		return 0, misuse(fmt.Errorf("%sthe agent knows %s as the application of %q, from %s, and not of %s: its configuration names other folders than this command found",
			nothing, d.Name, a.Unit, a.Source, d.Unit))
	}
	t.tell("", fmt.Sprintf("%s measured: %s, digest %s", a.Name, count(int(a.Files), "file"), digestOf(a)), 2)
	return a.Bytes, nil
}

// reference measures a declaration here. On a terminal it says now and then how far it is.
func (t *terminal) reference(ctx context.Context, file, root string) (*pcr.AppEvent, error) {
	p := manifest.NewProgress()
	defer t.tellProgress(ctx, p, progressPause)()
	return manifest.Reference(ctx, file, root, p)
}

// progressPause is the time after which a person at a terminal is told again how far a reading is.
const progressPause = 2 * time.Second

// tellProgress says now and then how far a reading is, if a person may be looking, until the
// function that it returns is called.
func (t *terminal) tellProgress(ctx context.Context, p *manifest.Progress, every time.Duration) (ended func()) {
	if !t.follows {
		return func() {}
	}
	return t.tellEvery(ctx, every, func(context.Context) string {
		bytes, of, path := p.Now()
		if path == "" {
			return ""
		}
		return fmt.Sprintf("%d of %d MiB read so far, at %q", bytes>>20, of>>20, path)
	})
}

// sizeBelow returns the size of an application on a machine that is being built, if its files are
// there already.
func (t *terminal) sizeBelow(ctx context.Context, root string, d *declaration.Declaration) (bytes uint64, known bool, err error) {
	file, err := unitfile.Within(root, d.File) // and not where a link in an image leads on this machine
	var e *pcr.AppEvent
	if err == nil {
		e, err = t.reference(ctx, file, root)
	}
	if ctx.Err() != nil {
		return 0, false, ctx.Err()
	}
	if err != nil {
		fmt.Fprintf(t.err, "agentctl: note: the size of %s is not known, so its unit gets no longer time to start: %s\n", cleanLine(d.Name), cleanLine(err.Error()))
		return 0, false, nil
	}
	for _, f := range e.Manifest {
		bytes += f.Size
	}
	return bytes, true, nil
}
