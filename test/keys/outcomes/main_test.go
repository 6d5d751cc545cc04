// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// shared is made once: every row begins with a copy of the same machine, whose
// software platform takes seconds to make.
var shared struct {
	commands string // folder; empty if there is no TPM to run anything on
	dir      string // of everything below
	machine  string // the machine, switched off
	foretold map[string]api.ContractChange
	derived  []byte // by billing, label "disk", 32 bytes
	public   []byte // half of the signing key that billing had on the first day

	recipient, storeKey string // of the machine; root keeps them with the right identity
}

// Files in shared.dir.
const (
	associatedFile = "associated" // data of "token"
	otherFile      = "other"      // other data
	rightIdentity  = "right.txt"
	wrongIdentity  = "wrong.txt"
)

func inShared(name string) string { return filepath.Join(shared.dir, name) }

func TestMain(m *testing.M) {
	if unit := os.Getenv(asks); unit != "" {
		if err := askAsSystemd(unit, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(simulated.Main(m, func(commands, dir string) (func() error, error) {
		shared.commands, shared.dir = commands, dir
		err := makeShared()
		if errors.Is(err, simulated.ErrNoTPM) {
			shared.commands = ""
		}
		return nil, err
	}))
}

// configText is the configuration of every machine. Tests share their processors, hence
// the patience with the TPM.
const configText = `[keys]
recovery_recipients = [%q]
lose_on_hardware_change = false
[tpm]
timeout = "1m"
`

// makeShared makes a machine on which app billing has sealed "token".
func makeShared() error {
	shared.machine = inShared("machine")
	if err := os.MkdirAll(filepath.Join(shared.machine, "apps.d"), 0o700); err != nil {
		return err
	}
	for _, name := range []string{wrongIdentity, rightIdentity} {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		shared.recipient = id.Recipient().String()
		if err := os.WriteFile(inShared(name), []byte(id.String()+"\n"), 0o600); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(configText, shared.recipient)
	for name, text := range map[string]string{
		filepath.Join(shared.machine, "config.toml"): config,
		inShared(associatedFile):                     "ad",
		inShared(otherFile):                          "other",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	b := &bed{dir: shared.machine, raise: usual}
	if err := b.install("billing", "ledger"); err != nil {
		return err
	}
	if err := b.begin(); err != nil {
		return err
	}
	defer b.m.Kill()
	if err := b.first(); err != nil {
		return err
	}
	// In order, so that nothing of the machine is missing in its copies.
	return b.m.Stop()
}

// first is what happened on the machine before anything else.
func (b *bed) first() error {
	for _, args := range [][]string{
		{"seal", "--name", "token", "--associated-data", inShared(associatedFile), "-"},
		{"key", "derive", "--label", "disk", "--length", "32"},
		{"key", "public", "--key", "host:ecdsa-p256"},
		{"key", "show", "billing", "token", "--json"},
		{"key", "store-key"},
	} {
		r := b.try(billing, "hunter2", args...)
		if r.exit != 0 {
			return fmt.Errorf("agentctl %v: %v", args, r)
		}
		switch args[1] {
		case "derive":
			shared.derived = r.out
		case "public":
			shared.public = r.out
		case "store-key":
			shared.storeKey = strings.TrimSpace(string(r.out))
		case "show":
			c, err := contractOf(r.out)
			if err != nil {
				return err
			}
			shared.foretold = changesOf(c)
		}
	}
	return nil
}

// changesOf returns what a contract says, by change.
func changesOf(c api.Contract) map[string]api.ContractChange {
	out := map[string]api.ContractChange{}
	for _, x := range c.Changes {
		out[x.Change] = x
	}
	return out
}
