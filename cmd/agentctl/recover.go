// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

func keyRecover(t *terminal, s *sockets) *cobra.Command {
	var identity string
	var r api.RecoverRequest
	c := command("recover", keyRecoverUsage, arguments(), func(c *cobra.Command, _ []string) error {
		switch {
		case r.StoreKey != "" && r.TrustUnknownWriterOfThisDisk:
			return misuse(errors.New("--store-key and --trust-unknown-writer-of-this-disk exclude each other: give the store key if you have it")).withHint(helpHint(c))
		case identity != "" && r.StoreKey == "" && !r.TrustUnknownWriterOfThisDisk:
			return misuse(errors.New("--store-key is missing: any party can seal to a recovery recipient, and only this key tells who wrote the disk")).withHint("give the key that was kept with the identity; `agentctl key store-key` printed it when the store was open")
		}
		if r.StoreKey != "" {
			if _, err := sealing.ParseStoreKey(r.StoreKey); err != nil {
				return misuse(fmt.Errorf("--store-key: %w", err))
			}
		}
		if identity != "" {
			err := secret.LeaveNoCore()
			if err != nil {
				return misuse(err)
			}
			if r.Identities, err = t.readInput(identity, sealing.MaxIdentityFile); err != nil {
				return err
			}
			defer clear(r.Identities)
		}
		return t.printRewritten(s.adminSocket().Recover(c.Context(), r))
	})
	f := c.Flags()
	f.StringVar(&identity, "identity", "", "")
	f.StringVar(&r.StoreKey, "store-key", "", "")
	f.StringArrayVar(&r.Recipients, "recipient", nil, "")
	f.BoolVar(&r.LoseOnHardwareChange, "lose-on-hardware-change", false, "")
	f.BoolVar(&r.AcceptRollback, "accept-rollback", false, "")
	f.BoolVar(&r.TrustUnknownWriterOfThisDisk, "trust-unknown-writer-of-this-disk", false, "")
	return c
}

// storeKey is what key store-key prints as JSON.
type storeKey struct {
	StoreKey string `json:"storeKey"` // public half of the key that signs every blob
}

// printStoreKey prints the public half of the store key, and nothing else: its output can
// go to a file.
func (t *terminal) printStoreKey(store *api.Store, err error) error {
	if err == nil && store.Status.StoreKey == "" {
		return &exitError{code: exitSealed, err: fmt.Errorf("the store is not open, so it has no store key to show: %s", cleanLine(store.Status.Reason)), hint: store.Status.Code.Info().Hint}
	}
	if err != nil {
		return failed(err)
	}
	return present(t, storeKey{store.Status.StoreKey}, nil, func() { fmt.Fprintln(t.out, cleanLine(store.Status.StoreKey)) })
}

// printRewritten prints the result of an operation on the whole store. If blobs stay
// closed, the exit code is 8.
func (t *terminal) printRewritten(r *api.Rewritten, err error) error {
	err = present(t, r, err, func() {
		n := &node{text: fmt.Sprintf("%d sealed again, %d left as they are", r.Written, len(r.Kept))}
		for _, k := range r.Kept {
			n.add("%s: %s %q: %s", k.App, k.Kind, k.Name, k.Reason)
		}
		if r.Recovered != nil {
			n.addRecovered(r.Recovered)
		}
		if r.NewStoreKey {
			n.add("NEW store key %s: keep it with the recovery identity, in place of the old one", r.StoreKey)
		} else {
			n.add("store key %s, as before", r.StoreKey)
		}
		n.draw(t)
	})
	if err == nil && len(r.Kept) > 0 {
		return &exitError{code: exitSealed}
	}
	return err
}

// addRecovered says what a recovery rests on.
func (n *node) addRecovered(r *api.Recovered) {
	switch {
	case r.Unproven:
		n.add("DANGER: nothing told who wrote this disk; an attacker may have chosen what was taken over")
	case r.Generation == 0:
		n.add("every blob that was taken over is of this machine or signed by the store key; the manifest was lost, so some may be old or missing")
	default:
		n.add("every blob that was taken over is of this machine or signed by the store key")
	}
	switch {
	case r.Newest:
		n.add("generation %d, which the TPM's counter confirms", r.Generation)
	case r.Generation > 0:
		n.add("generation %d: nothing tells whether it is the newest; compare it with what you noted", r.Generation)
	}
	for _, v := range r.Rotated {
		n.add("%s now derives from version %d of its root; a party that wrote the disk may know the older ones", v.App, v.Version)
	}
	for _, x := range r.Secrets {
		n.add("%s: secret %q may be of an attacker's choice: store it again", x.App, x.Name)
	}
	for _, x := range r.RecipientsBefore {
		n.add("recovery recipient before, as the files said: %s", x)
	}
	for _, x := range r.Recipients {
		n.add("recovery recipient now: %s", x)
	}
	if len(r.Recipients) == 0 {
		n.add("no recovery recipient now: another chip loses everything")
	}
}
