// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/text"
)

func keyCommand(t *terminal, s *sockets) *cobra.Command {
	c := group(t, "key", keyUsage,
		keyDerive(t, s), keyPublic(t, s), keyCertify(t, s), keyShow(t, s), keyRotate(t, s), keyRetire(t, s), keyRecover(t, s), keyRecipients(t, s),
		plain(s, "list", keyListUsage, (*client.Admin).Store, t.printStore),
		plain(s, "rewrap", keyRewrapUsage, (*client.Admin).Rewrap, t.printRewritten),
		plain(s, "rotate-store-key", keyRotateStoreKeyUsage, (*client.Admin).RotateStoreKey, t.printRewritten),
		plain(s, "store-key", keyStoreKeyUsage, (*client.Admin).Store, t.printStoreKey),
		plain(s, "accept-rollback", keyAcceptRollbackUsage, (*client.Admin).AcceptRollback, t.printStore),
		plain(s, "replace-ak", keyReplaceAKUsage, (*client.Admin).ReplaceAK, t.printReplaced),
		keyDigest(t, s, "require-digest", api.DigestRequire), keyDigest(t, s, "authorize", api.DigestAuthorize),
		keyDigest(t, s, "withdraw", api.DigestWithdraw), keyDigest(t, s, "lift-digest", api.DigestLift),
	)
	c.AddCommand(upgradeCommands(t, s)...)
	return c
}

// plain returns a command without flags that prints what the agent answers to root.
func plain[T any](s *sockets, use, long string, ask func(*client.Admin, context.Context) (*T, error), print func(*T, error) error) *cobra.Command {
	return command(use, long, arguments(), func(c *cobra.Command, _ []string) error {
		return print(ask(s.adminSocket(), c.Context()))
	})
}

func keyDerive(t *terminal, s *sockets) *cobra.Command {
	var r api.DeriveRequest
	var out string
	c := command("derive", keyDeriveUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if r.Length == 0 {
			return misuse(errors.New("--length is missing")).withHint(helpHint(c))
		}
		if err := secret.LeaveNoCore(); err != nil {
			return misuse(err)
		}
		d, err := s.clientSocket().Derive(c.Context(), r)
		if err != nil {
			return failed(err)
		}
		defer clear(d.Secret)
		return t.writeSecretOutput(out, d.Secret)
	})
	c.Flags().StringVar(&r.Label, "label", "", "")
	c.Flags().Uint32Var(&r.Length, "length", 0, "")
	c.Flags().Uint32Var(&r.Version, "version", 0, "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

// printStore prints the store. If it cannot be opened, the exit code is 8.
func (t *terminal) printStore(store *api.Store, err error) error {
	err = present(t, store, err, func() {
		n := &node{text: cleanLine(keyLine(&store.Status))}
		if store.Status.Reason != "" {
			n.add("%s", store.Status.Reason)
		}
		for _, r := range store.Recipients {
			n.add("recovery recipient %s", r)
		}
		if store.Status.StoreKey != "" {
			n.add("store key %s: keep it with the recovery identity", store.Status.StoreKey)
		}
		if store.Differ {
			n.add("the configuration names other recipients, which are not used: `agentctl key recipients` changes them")
		}
		for _, b := range store.Blobs {
			what := fmt.Sprintf("%s: %s", b.App, b.Kind)
			if b.Name != "" {
				what += fmt.Sprintf(" %q", b.Name)
			}
			x := n.add("%s, %d bytes, %s, generation %d", what, b.Bytes, b.Slot, b.Generation)
			if b.Rewrap {
				x.add("sealed to an older TCB or another kind of slot: `agentctl key rewrap`")
			}
			if b.Unproven {
				x.add("recovered although nothing told who wrote it: an attacker may have chosen what it contains")
			}
		}
		n.draw(t)
	})
	if err == nil && store.Status.State != api.StateOK {
		return &exitError{code: exitSealed, hint: store.Status.Code.Info().Hint}
	}
	return err
}

// keyLine returns the state of the store in one line.
func keyLine(k *api.KeyStatus) string {
	if k.State != api.StateOK {
		return fmt.Sprintf("sealed blobs: %s", k.State)
	}
	line := fmt.Sprintf("%s, slot %s, generation %d", count(k.Blobs, "sealed blob"), k.Slot, k.Generation)
	if !k.Counted {
		line += ", no rollback protection"
	}
	if k.Rewrap {
		line += ", some need a rewrap"
	}
	if k.Unproven > 0 {
		line += fmt.Sprintf(", %d of which nothing tells who wrote them", k.Unproven)
	}
	if k.Orphans > 0 {
		line += fmt.Sprintf(", %s not in the manifest", text.Count(k.Orphans, "file"))
	}
	return line
}

func keyShow(t *terminal, s *sockets) *cobra.Command {
	some := func(c *cobra.Command, args []string) error {
		if len(args) == 2 {
			return nil
		}
		return arguments("APP")(c, args)
	}
	return command("show", keyShowUsage, some, func(c *cobra.Command, args []string) error {
		name := ""
		if len(args) == 2 {
			name = args[1]
		}
		return t.printContract(s.adminSocket().Contract(c.Context(), args[0], name))
	})
}

func keyRotate(t *terminal, s *sockets) *cobra.Command {
	return command("rotate", keyRotateUsage, arguments("APP"), func(c *cobra.Command, args []string) error {
		v, err := s.adminSocket().Rotate(c.Context(), args[0])
		return present(t, api.RootVersion{App: args[0], Version: v}, err, func() {
			fmt.Fprintf(t.out, "%s now derives from version %d\n", cleanLine(args[0]), v)
		})
	})
}

func keyRetire(t *terminal, s *sockets) *cobra.Command {
	return command("retire", keyRetireUsage, arguments("APP", "VERSION"), func(c *cobra.Command, args []string) error {
		v, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return misuse(fmt.Errorf("version %q is not a number", args[1]))
		}
		err = s.adminSocket().Retire(c.Context(), args[0], uint32(v))
		return present(t, api.RootVersion{App: args[0], Version: uint32(v)}, err, func() {
			t.tell("", fmt.Sprintf("%s: version %d is forgotten: its secrets cannot be derived again", args[0], v), 2)
		})
	})
}

func keyRecipients(t *terminal, s *sockets) *cobra.Command {
	r := api.RecipientsRequest{Recipients: []string{}}
	c := command("recipients", keyRecipientsUsage, cobra.ArbitraryArgs, func(c *cobra.Command, args []string) error {
		r.Recipients = append(r.Recipients, args...)
		return t.printRewritten(s.adminSocket().ChangeRecipients(c.Context(), r))
	})
	c.Flags().BoolVar(&r.LoseOnHardwareChange, "lose-on-hardware-change", false, "")
	return c
}

func (t *terminal) printReplaced(r *api.Replaced, err error) error {
	return present(t, r, err, func() {
		n := &node{text: cleanLine(fmt.Sprintf("new attestation key %x", []byte(r.New)))}
		if len(r.Old) > 0 {
			n.add("replaces %x", []byte(r.Old))
		}
		n.add("because %s", r.Reason)
		n.add("the old key is kept as %s", r.Backup)
		n.add("to do: enrol the new key at the verifiers (agentctl enroll request); if secrets were sealed: agentctl key recover --identity FILE --store-key KEY --recipient AGE")
		n.draw(t)
	})
}

// keyDigest returns a command that changes which digests an application must have.
func keyDigest(t *terminal, s *sockets, use string, action api.DigestAction) *cobra.Command {
	var app, digest string
	c := command(use, digestUsage(action), arguments(), func(c *cobra.Command, _ []string) error {
		if app == "" {
			return misuse(errors.New("--app is missing")).withHint(helpHint(c))
		}
		r := api.DigestRequest{App: app, Action: action}
		switch {
		case digest != "" && action == api.DigestLift:
			return misuse(errors.New("--digest is given, but lift-digest removes all: leave --digest out")).withHint(helpHint(c))
		case digest != "":
			b, err := t.parseBytes("--digest", digest, len(evidence.Digest{}), len(evidence.Digest{}))
			if err != nil {
				return err
			}
			d := evidence.Digest(b)
			r.Digest = &d
		case action != api.DigestLift && action != api.DigestRequire:
			return misuse(errors.New("--digest is missing")).withHint("`agentctl app list` shows digests")
		}
		contract, err := s.adminSocket().ChangeDigests(c.Context(), r)
		return present(t, contract, err, func() {
			n := &node{text: cleanLine(fmt.Sprintf("%s: %s", contract.App, text.Count(len(contract.Digests), "digest")))}
			for _, d := range contract.Digests {
				n.add("%s", d)
			}
			if len(contract.Digests) == 0 {
				n.text = cleanLine(contract.App + ": no digest is required")
			}
			n.draw(t)
		})
	})
	c.Flags().StringVar(&app, "app", "", "")
	c.Flags().StringVar(&digest, "digest", "", "")
	return c
}
