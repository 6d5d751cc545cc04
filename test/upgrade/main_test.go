// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"testing"

	"os"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// shared is made once: the commands, and a software platform with the keys of its test root.
var shared struct{ commands, platform string }

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (_ func() error, err error) {
		shared.commands = commands
		shared.platform, err = simulated.Platform(commands, dir)
		return nil, err
	}))
}
