// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// shared is made once: the commands, and a software platform with the keys of its test root.
var shared struct{ commands, platform string }

// asks is the address of the credential that this program asks for, in the place of the tests.
const asks = "AGENTD_TEST_ASKS"

func TestMain(m *testing.M) {
	if address := os.Getenv(asks); address != "" {
		if err := askAsSystemd(address, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if mode := os.Getenv(misleads); mode != "" {
		if err := mislead(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(simulated.Main(m, func(commands, dir string) (_ func() error, err error) {
		shared.commands = commands
		shared.platform, err = simulated.Platform(commands, dir)
		return nil, err
	}))
}

// askAsSystemd connects to a socket as systemd does, and prints what it reads.
func askAsSystemd(address, socket string) error {
	from := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@%x%s", os.Getpid(), address)}
	c, err := net.DialUnix("unix", from, &net.UnixAddr{Net: "unix", Name: socket})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(os.Stdout, c)
	return errors.Join(err, c.CloseWrite())
}
