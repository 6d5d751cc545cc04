// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// asks makes this program ask for a credential as systemd does, in the place of the tests. It is
// the end of an address and a socket, with a space between.
const asks = "AGENTD_TEST_ASKS"

var shared struct{ commands, platform string }

func TestMain(m *testing.M) {
	if path := os.Getenv(asks); path != "" {
		fmt.Println(ask(path, os.Args[1]))
		return
	}
	os.Exit(simulated.Main(m, func(commands, dir string) (_ func() error, err error) {
		shared.commands = commands
		shared.platform, err = simulated.Platform(commands, dir)
		return nil, err
	}))
}

// ask connects from an address like those of systemd, and says what it got: zeros are a refusal.
func ask(path, socket string) string {
	from := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@%x%s", os.Getpid(), path)}
	c, err := net.DialUnix("unix", from, &net.UnixAddr{Net: "unix", Name: socket})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.CloseWrite()
	b, err := io.ReadAll(c)
	switch {
	case err != nil:
		return err.Error()
	case len(b) > 1<<20 && len(bytes.Trim(b, "\x00")) == 0:
		return "refused"
	}
	return fmt.Sprintf("%d bytes: %q", len(b), b[:min(len(b), 100)])
}
