// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/pcr"
)

const policyReferenceUsage = `Usage: agentctl policy reference [--root DIR] DECLARATION...

Compute the manifest and digest of applications from their files, as the agent
would log them, and print an [[app]] rule for each. A build can publish these rules
for its users' policies. The command records nothing and needs no agent.

The paths of a declaration are below DIR: an unpacked package, or the root of an
image. Links do not leave it. Modes count, owners do not. Files must be the same as
on the machine.

  --root DIR             folder to use as "/" (default: this machine)
  --json                 the events that the agent would log, with every file

Examples:
  dpkg-deb -x billing.deb root
  agentctl policy reference --root root root/usr/lib/agentd/apps.d/billing.toml >> policy.toml
`

func policyReferenceCommand(t *terminal) *cobra.Command {
	var root string
	c := command("reference", policyReferenceUsage, atLeastOne("DECLARATION"), func(c *cobra.Command, args []string) error {
		events := make([]*pcr.AppEvent, len(args))
		for i, file := range args {
			e, err := manifest.Reference(c.Context(), file, root)
			if err != nil {
				return misuse(err)
			}
			events[i] = e
		}
		if t.json {
			return t.writeJSON(events)
		}
		for _, e := range events {
			fmt.Fprintf(t.out, "# %s: %d files, declaration %s\n[[app]]\nname = %q\n", e.App, len(e.Manifest), e.Declaration, e.App)
			fmt.Fprintf(t.out, "unit = %q\nuser = %q\ndigests = [%q]\n\n", e.Unit, e.User, hex.EncodeToString(e.Digest[:]))
		}
		return nil
	})
	c.Flags().StringVar(&root, "root", "", "")
	return c
}
