// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

const policyEnrolmentUsage = `Usage: agentctl policy enrolment RECORD...

Print an [[enrolment]] rule for each record that "agentctl enroll finish" wrote.
Append it to a policy. A policy with such a rule refuses every attestation key that
it does not know.

Example:
  agentctl policy enrolment record.json >> policy.toml
`

const policyEKRootsUsage = `Usage: agentctl policy ek-roots FILE...

Print the key ek_roots of the certificates in files, PEM or DER: the authorities
that a policy trusts to certify TPMs. Put it at the head of a policy, with the other
root keys. Add ak_origin = "certified" to accept only attestation keys in TPMs with
such a certificate. The verifier checks that without a network.

Example:
  agentctl policy ek-roots maker-root.pem > policy.toml
`

func policyEnrolmentCommand(t *terminal) *cobra.Command {
	return command("enrolment", policyEnrolmentUsage, atLeastOne("RECORD"), func(_ *cobra.Command, args []string) error {
		for _, name := range args {
			var e keys.Enrolment
			if err := t.readDocument(name, &e); err != nil {
				return err
			}
			if err := e.Check(); err != nil {
				return misuse(fmt.Errorf("%s: %w", name, err))
			}
			rule, err := toml.Marshal(map[string][]verify.Enrolment{"enrolment": {verify.EnrolmentOf(&e)}})
			if err != nil {
				return err
			}
			fmt.Fprintf(t.out, "%s\n", rule)
		}
		return nil
	})
}

func policyEKRootsCommand(t *terminal) *cobra.Command {
	return command("ek-roots", policyEKRootsUsage, atLeastOne("FILE"), func(_ *cobra.Command, args []string) error {
		var all keys.Bundle
		for _, name := range args {
			ders, err := t.readCertificates(name)
			if err != nil {
				return err
			}
			all = append(all, ders...)
		}
		if len(all) > keys.MaxEKCertificates {
			return misuse(fmt.Errorf("%d certificates, but a policy may have at most %d", len(all), keys.MaxEKCertificates))
		}
		text, err := all.MarshalText()
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "ek_roots = \"\"\"\n%s\"\"\"\n", text)
		return nil
	})
}

// atLeastOne accepts one or more arguments of one kind.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return arguments(name)(c, args)
		}
		return nil
	}
}
