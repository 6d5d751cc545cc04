// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/internal/config"
)

// Check reports what of this machine keeps an agent with this configuration, running as uid, from
// starting, as a [Refused] error. [Run] calls it first, so that `agentd --check` accepts what
// starts, and refuses what does not.
func Check(c config.Config, uid int) error {
	if err := c.CheckMachine(uid); err != nil {
		return &startup.Refusal{Err: err}
	}
	return nil
}
