// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/socket"
	"github.com/cvm-agentd/agentd/internal/sshagent"
)

const sshAgentUsage = `Usage: agentctl ssh-agent --listen PATH --key KEY...

Offer signing keys of the calling application to ssh and sshd, by the protocol of
ssh-agent. It runs until it is stopped, as a service of the application's unit and
user. It lists keys and signs with them, and refuses to add, remove or lock any. The
socket has mode 0600: this user and root can use the keys, and take none away.

  --listen PATH   the socket to make, in a folder to which only root and this user
                  can write; required
  --key KEY       LABEL, LABEL:ALGORITHM or LABEL:ALGORITHM:VERSION, as for
                  "agentctl sign"; may be repeated. Without a version a key changes
                  with "agentctl key rotate": name the version of a host key

sshd uses a host key with these lines, the file being what
"agentctl key public --ssh" prints:
  HostKeyAgent PATH
  HostKey /etc/ssh/host.pub

Exit codes: 7 not an application's unit and user, 8 the store cannot be opened.

Examples:
  agentctl ssh-agent --listen /run/hostkey/agent.sock --key host:ed25519:1
  SSH_AUTH_SOCK=/run/deploy/agent.sock ssh git@git.example
`

func sshAgentCommand(t *terminal, s *sockets) *cobra.Command {
	var listen string
	var names []string
	c := command("ssh-agent", sshAgentUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if listen == "" {
			return misuse(errors.New("--listen is missing")).withHint(helpHint(c))
		}
		if len(names) == 0 {
			names = []string{""}
		}
		var keys []api.SigningKey
		for _, name := range names {
			k, err := parseKeyName(c, name)
			if err != nil {
				return err
			}
			if slices.Contains(keys, k) {
				return misuse(fmt.Errorf("--key %q is given twice", name))
			}
			keys = append(keys, k)
		}
		a, err := sshagent.New(s.clientSocket(), keys, func(line string) { fmt.Fprintf(t.err, "agentctl: %s\n", cleanLine(line)) })
		if err != nil {
			return misuse(err)
		}
		if err := a.Look(c.Context()); err != nil {
			return failed(err)
		}
		l, err := socket.Listen(c.Context(), listen)
		if err != nil {
			return misuse(err)
		}
		// For a unit with Type=notify: what is ordered after it finds the socket.
		if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
			fmt.Fprintf(t.err, "agentctl: tell systemd that the socket is there: %v\n", err)
		}
		return misuseIf(a.Serve(c.Context(), l))
	})
	c.Flags().StringVar(&listen, "listen", "", "")
	c.Flags().StringArrayVar(&names, "key", nil, "")
	return c
}
