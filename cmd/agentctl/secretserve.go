// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/carrier"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/journal"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
)

const secretServeUsage = `Usage: agentctl secret serve FILE

Listen, on the machine, for relying parties that deliver secrets over attested TLS. They
use "agentctl secret send --to HOST:PORT". Root lists in FILE what may be delivered, and
by whom. It runs until it is stopped, as agentd-secrets.service, which the package has.
It reads no secret: it passes messages on, between connections and the agent.

FILE is TOML. Only root may be able to write it, and the files of keys:

  listen = ":8444"                     # address (this is the default)

  [[deliver]]
  app = "billing"                      # application that the secrets are for
  names = ["db-password"]              # names of the secrets
  senders = ["/etc/agentd/ops.pem"]    # public keys of those who may, Ed25519, PEM
  replace = true                       # they may replace one (default: false)
  valid_for = "2m"                     # of a ticket, 1s to 1h (default: 2m)

A sender proves its key before anything is made for it. A change of FILE needs a restart.

Exit codes: 1 misuse, or the address is in use.

Examples:
  agentctl secret serve /etc/agentd/deliveries.toml
`

func secretServe(t *terminal, s *sockets) *cobra.Command {
	return command("serve", secretServeUsage, arguments("FILE"), func(c *cobra.Command, args []string) error {
		rules, err := readRules(args[0])
		if err != nil {
			return err
		}
		var lc net.ListenConfig
		l, err := lc.Listen(c.Context(), "tcp", rules.Listen)
		if err != nil {
			return misuse(err)
		}
		fmt.Fprintf(t.err, "agentctl: listening on %s\n", l.Addr())
		if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
			fmt.Fprintf(t.err, "agentctl: tell systemd that the address is there: %v\n", err)
		}
		server := carrier.NewServer(carrier.Config{Rules: rules, Agent: s.adminSocket(), Evidence: s.clientSocket(), Log: slog.New(journal.NewHandler(slog.LevelInfo))})
		return misuseIf(server.Serve(c.Context(), l))
	})
}

// readRules reads the file of what may be delivered. Another user that can write it, or a sender's
// key, would be let in by it.
func readRules(name string) (*carrier.Rules, error) {
	b, err := durable.ReadTrusted(name, carrier.MaxRules)
	if err != nil {
		return nil, misuse(fmt.Errorf("read %s: %w", name, err))
	}
	rules, err := carrier.ParseRules(b, func(path string) ([]byte, error) { return durable.ReadTrusted(path, carrier.MaxSender) })
	if e, ok := errors.AsType[*stricttoml.Error](err); ok {
		return nil, misuse(errors.New(e.In(name)))
	}
	return rules, misuseIf(err)
}
