// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
)

// Commands of swtpm's control channel that its TCTI module uses (swtpm_ioctls(3)).
const controlSetLocality = 5

// Tool runs a program of tpm2-tools on the TPM in the directory dir and returns what
// it prints. The test skips if the program is not installed.
func (p *Proxy) Tool(tb testing.TB, dir, name string, args ...string) ([]byte, error) {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		tb.Skipf("needs %s of tpm2-tools", name)
	}
	p.control(tb)
	cmd := exec.CommandContext(tb.Context(), path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+p.path, "TSS2_LOG=all+NONE")
	return cmd.CombinedOutput()
}

// control answers on the control channel next to the socket as swtpm would: yes.
func (p *Proxy) control(tb testing.TB) {
	l, err := net.Listen("unix", p.path+".ctrl")
	if err != nil {
		return // already there
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerControl(c)
		}
	}()
}

func answerControl(c net.Conn) {
	defer c.Close()
	for {
		var command [4]byte
		if _, err := io.ReadFull(c, command[:]); err != nil {
			return
		}
		if binary.BigEndian.Uint32(command[:]) == controlSetLocality {
			var locality [1]byte
			if _, err := io.ReadFull(c, locality[:]); err != nil {
				return
			}
		}
		if _, err := c.Write(make([]byte, 4)); err != nil {
			return
		}
	}
}
