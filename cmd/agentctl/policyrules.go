// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
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
			e, err := readDocument[keys.Enrolment](t, name, maxEnroll)
			if err != nil {
				return err
			}
			if err := e.Check(); err != nil {
				return misuse(fmt.Errorf("%s: %w", name, err))
			}
			var p verify.Policy
			p.Enrolments = []verify.Enrolment{verify.EnrolmentOf(e)}
			rule, err := toml.Marshal(p.AKRules)
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
		var p verify.Policy
		p.EKRoots = string(text)
		rule, err := toml.Marshal(p.AKRules)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s", rule)
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

const policyReferenceUsage = `Usage: agentctl policy reference [--root DIR] DECLARATION...

Compute the digest of applications from their files, without an agent. The command
prints an [[app]] rule for each, over the manifest that the agent would log. A build
can publish these rules for its users' policies. Nothing is recorded.

The paths of a declaration are below DIR: an unpacked package, or the root of an
image. Links do not leave it. Modes count, owners do not. Files must be the same as
on the machine.

  --root DIR             folder to use as "/" (default: this machine)
  --json                 the events that the agent would log, with every file

Examples:
  dpkg-deb -x billing.deb root
  agentctl policy reference --root root root/usr/lib/agentd/apps.d/billing.toml >> policy.toml
`

// references is what policy reference prints as JSON.
type references struct {
	Apps []*pcr.AppEvent `json:"apps"` // events that the agent would log, in the order of the declarations
}

// ofDynamicUser returns the line of a rule about an application whose user is dynamic.
func ofDynamicUser(dynamic bool) string {
	if dynamic {
		return "dynamic_user = true\n"
	}
	return ""
}

func policyReferenceCommand(t *terminal) *cobra.Command {
	var root string
	c := command("reference", policyReferenceUsage, atLeastOne("DECLARATION"), func(c *cobra.Command, args []string) error {
		events := make([]*pcr.AppEvent, len(args))
		for i, file := range args {
			e, err := t.reference(c.Context(), file, root)
			if err != nil {
				return misuse(err)
			}
			events[i] = e
		}
		if t.json {
			return t.writeJSON(references{events})
		}
		for _, e := range events {
			fmt.Fprintf(t.out, "# %s: %s, declaration %s\n[[app]]\nname = %q\n", e.App, count(len(e.Manifest), "file"), e.Declaration, e.App)
			fmt.Fprintf(t.out, "unit = %q\nuser = %q\n%sdigests = [%q]\ndeclarations = [%q]\n\n", e.Unit, e.User, ofDynamicUser(e.Dynamic), e.Digest, e.Declaration)
		}
		return nil
	})
	c.Flags().StringVar(&root, "root", "", "")
	return c
}
