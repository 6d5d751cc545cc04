// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

// upgradeCommands are the commands that move the store to another image.
func upgradeCommands(t *terminal, s *sockets) []*cobra.Command {
	return []*cobra.Command{
		keyPinReleaseKey(t, s), keySignRelease(t), keyPrepareUpgrade(t, s), keyUpgradeRequest(t, s), keyUpgradeAnswer(t, s), keyUpgradeAccept(t, s),
		plain(s, "upgrade-status", keyUpgradeStatusUsage, (*client.Admin).Upgrade, t.printUpgrade),
		plain(s, "upgrade-abort", keyUpgradeAbortUsage, (*client.Admin).AbortUpgrade, t.printAborted),
		plain(s, "upgrade-finish", keyUpgradeFinishUsage, (*client.Admin).FinishUpgrade, t.printUpgrade),
	}
}

func keyPinReleaseKey(t *terminal, s *sockets) *cobra.Command {
	return command("pin-release-key", keyPinReleaseKeyUsage, arguments("FILE"), func(c *cobra.Command, args []string) error {
		b, err := t.readInput(args[0], transfer.MaxKeyFile)
		if err != nil {
			return err
		}
		if _, err := transfer.ParseReleaseKey(b); err != nil { // before a private key could go anywhere
			return misuse(fmt.Errorf("%s: %w", args[0], err))
		}
		return t.printUpgrade(s.adminSocket().PinReleaseKey(c.Context(), b))
	})
}

func keyPrepareUpgrade(t *terminal, s *sockets) *cobra.Command {
	var r releaseFlags
	var release, signature, out string
	c := command("prepare-upgrade", keyPrepareUpgradeUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if out == "" || out == "-" {
			return misuse(errors.New("--out is missing: the file for the offer, which the successor needs")).withHint(helpHint(c))
		}
		if (release == "") != (signature == "") || (release == "") == (r.key == "") {
			return misuse(errors.New("want --release and --signature of a release that was signed, or --release-key to sign one here")).withHint(helpHint(c))
		}
		seconds := r.validFor / time.Second
		if seconds < 1 || seconds > 30*24*3600 {
			return misuse(fmt.Errorf("--valid-for %v: want 1s to 720h", r.validFor))
		}
		request := api.PrepareRequest{ValidFor: uint32(seconds)}
		var err error
		if release != "" {
			request.Release, request.Signature, err = t.readRelease(release, signature)
		} else {
			request.Release, request.Signature, err = t.releaseHere(c.Context(), s, &r)
		}
		if err != nil {
			return err
		}
		p, err := s.adminSocket().PrepareUpgrade(c.Context(), request)
		if err == nil {
			if err := t.writeOutput(out, p.Offer); err != nil {
				return err
			}
		}
		return t.printPrepared(p, out, err)
	})
	r.define(c.Flags())
	f := c.Flags()
	f.StringVar(&release, "release", "", "")
	f.StringVar(&signature, "signature", "", "")
	f.StringVar(&out, "out", "", "")
	return c
}

func (t *terminal) readRelease(release, signature string) (statement, signed []byte, err error) {
	if statement, err = t.readInput(release, transfer.MaxRelease); err != nil {
		return nil, nil, err
	}
	signed, err = t.readInput(signature, transfer.MaxKeyFile)
	return statement, signed, err
}

// releaseHere signs a release on this machine. Its number is that of the store, if none is given.
func (t *terminal) releaseHere(ctx context.Context, s *sockets, r *releaseFlags) (statement, signed []byte, err error) {
	if r.number == 0 {
		u, err := s.adminSocket().Upgrade(ctx)
		if err != nil {
			return nil, nil, failed(err)
		}
		r.number = max(u.Number, 1)
	}
	return t.signRelease(r, time.Now())
}

func keyUpgradeRequest(t *terminal, s *sockets) *cobra.Command {
	var out string
	c := command("upgrade-request", keyUpgradeRequestUsage, arguments("OFFER"), func(c *cobra.Command, args []string) error {
		offer, err := t.readInput(args[0], transfer.MaxOffer)
		if err != nil {
			return err
		}
		m, err := s.adminSocket().RequestUpgrade(c.Context(), offer)
		if err != nil {
			return failed(err)
		}
		fmt.Fprintf(t.err, "request %x\n", []byte(m.ID))
		return t.writeOutput(out, m.Request)
	})
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

func keyUpgradeAnswer(t *terminal, s *sockets) *cobra.Command {
	var out string
	c := command("upgrade-answer", keyUpgradeAnswerUsage, arguments("REQUEST"), func(c *cobra.Command, args []string) error {
		request, err := t.readInput(args[0], transfer.MaxRequest)
		if err != nil {
			return err
		}
		h, err := s.adminSocket().AnswerUpgrade(c.Context(), request)
		if err != nil {
			return failed(err)
		}
		fmt.Fprintf(t.err, "request %x: %s handed over; nothing is changed here until `agentctl key upgrade-abort`\n", []byte(h.ID), count(h.Entries, "blob"))
		for _, k := range h.Left {
			fmt.Fprintln(t.err, cleanLine(fmt.Sprintf("left behind: %s: %s %q: %s", k.App, k.Kind, k.Name, k.Reason)))
		}
		return t.writeOutput(out, h.Answer)
	})
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

func keyUpgradeAccept(t *terminal, s *sockets) *cobra.Command {
	var key string
	c := command("upgrade-accept", keyUpgradeAcceptUsage, arguments("ANSWER"), func(c *cobra.Command, args []string) error {
		if key == "" {
			return misuse(errors.New("--store-key is missing: it tells that the answer is from the old store, and not from an attacker")).
				withHint("give the key that was kept with the recovery identity; `agentctl key store-key` on the old machine prints it")
		}
		if _, err := sealing.ParseStoreKey(key); err != nil {
			return misuse(fmt.Errorf("--store-key: %w", err))
		}
		answer, err := t.readInput(args[0], transfer.MaxAnswer)
		if err != nil {
			return err
		}
		a, err := s.adminSocket().AcceptUpgrade(c.Context(), answer, key)
		return present(t, a, err, func() {
			n := &node{text: count(a.Written, "blob") + " taken over"}
			if a.Again {
				n.text = "the answer was accepted before"
			}
			n.addSentences(a.Contract)
			n.add("%s", a.Upgrade.Text)
			n.draw(t)
		})
	})
	c.Flags().StringVar(&key, "store-key", "", "")
	return c
}

// addSentences adds a contract.
func (n *node) addSentences(list []api.UpgradeSentence) {
	for _, x := range list {
		n.add("%s: %s", x.About, x.Text)
	}
}

func (t *terminal) printPrepared(p *api.PreparedUpgrade, out string, err error) error {
	return present(t, p, err, func() {
		n := &node{text: cleanLine(fmt.Sprintf("release %d may take the store over; the offer is in %s", p.Number, out))}
		for _, m := range p.Measurements {
			n.add("launch measurement %s", m)
		}
		n.addSentences(p.Contract)
		for _, k := range p.Left {
			n.add("stays behind: %s: %s %q: %s", k.App, k.Kind, k.Name, k.Reason)
		}
		n.draw(t)
	})
}

func (t *terminal) printUpgrade(u *api.UpgradeStatus, err error) error {
	return present(t, u, err, func() {
		n := &node{text: cleanLine("upgrade: " + string(u.State))}
		n.add("%s", u.Text)
		n.add("release key %s", cmp.Or(u.ReleaseKey, "not pinned, or not to be read"))
		if u.Number > 0 {
			n.add("this store came from release %d", u.Number)
		}
		if len(u.Request) > 0 {
			n.add("request %x", []byte(u.Request))
		}
		n.draw(t)
	})
}

func (t *terminal) printAborted(a *api.AbortedUpgrade, err error) error {
	return present(t, a, err, func() {
		n := &node{text: "the upgrade is given up"}
		if a.Returned {
			n.add("the store of before the upgrade is in force again; what the successor stored is lost")
		}
		if a.Answered {
			n.add("DANGER: a successor got the roots, and may use them: if it is not yours, rotate the roots of apps and the store key")
		}
		n.add("%s", a.Upgrade.Text)
		n.draw(t)
	})
}
