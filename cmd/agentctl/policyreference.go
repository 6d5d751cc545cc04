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
would log them, and print a [[app]] rule for each: so that a build can publish what
its users' policies list. Nothing is recorded, and no agent is needed.

Paths of a declaration are looked up below DIR: an unpacked package, or the root of
an image. Links end inside it. Modes count, owners do not; files must be there as
they will be on the machine.

  --root DIR             where "/" is (default: this machine)
  --json                 the events that the agent would log, with every file

Examples:
  dpkg-deb -x billing.deb root
  agentctl policy reference --root root root/usr/lib/agentd/apps.d/billing.toml >> policy.toml
`

func policyReferenceCommand(t *terminal) *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:  "reference",
		Long: policyReferenceUsage,
		Args: atLeastOne("DECLARATION"),
		RunE: func(c *cobra.Command, args []string) error {
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
		},
	}
	c.Flags().StringVar(&root, "root", "", "")
	return c
}
