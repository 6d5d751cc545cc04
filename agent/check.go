// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"

	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/internal/config"
)

// Check reports what of this machine keeps an agent with this configuration from starting, as a
// [Refused] error. [Run] calls it first, so that `agentd --check` accepts what starts, and
// refuses what does not. It looks at nothing that can change by itself: a device may come, and
// an agent that has the sockets may end.
func Check(c config.Config) error {
	var errs []error
	if _, err := lookupGroup(c.Sockets.ClientGroup); err != nil {
		errs = append(errs, &startup.Refusal{Err: err})
	}
	for _, path := range []string{c.Sockets.Client, c.Sockets.Admin} {
		if err := server.CheckPlace(path); err != nil {
			errs = append(errs, &startup.Refusal{Err: fmt.Errorf("socket %s: %w", path, err)})
		}
	}
	errs = append(errs, onlyOne(c))
	return errors.Join(errs...)
}

// onlyOne refuses a state folder and a log folder that are one under two names. Each has a lock
// and files of its own.
func onlyOne(c config.Config) error {
	state, err := os.Stat(c.State.Folder)
	if err != nil {
		return nil
	}
	log, err := os.Stat(c.Measurement.LogFolder)
	if err != nil || !os.SameFile(state, log) {
		return nil
	}
	return &startup.Refusal{Err: fmt.Errorf("state folder %s and log folder %s are the same folder: name two", c.State.Folder, c.Measurement.LogFolder)}
}
