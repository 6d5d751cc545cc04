// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cvm-agentd/agentd/internal/dsse"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// policyKeyFlags name the parties that may say what is acceptable.
type policyKeyFlags struct {
	keys      string
	threshold int
	least     uint64
}

func (f *policyKeyFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.keys, "policy-keys", "", "")
	flags.IntVar(&f.threshold, "policy-threshold", 1, "")
	flags.Uint64Var(&f.least, "policy-number", 0, "")
}

// check refuses flags that ask for nothing, or for more than there can be.
func (f *policyKeyFlags) check() error {
	switch {
	case f.keys == "" && (f.threshold != 1 || f.least != 0):
		return errors.New("--policy-threshold and --policy-number are about signed policies: name the keys with --policy-keys")
	case f.threshold < 1 || f.threshold > dsse.MaxKeys:
		return fmt.Errorf("--policy-threshold %d: want 1 to %d", f.threshold, dsse.MaxKeys)
	}
	return nil
}

// readPolicy reads a policy. If keys are named, they must have signed it; otherwise it must not be a
// signed one, whose signatures would go unseen. One without a signature does not expire.
func (t *terminal) readPolicy(name string, f *policyKeyFlags, at time.Time) (*verify.SignedPolicy, error) {
	if err := f.check(); err != nil {
		return nil, misuse(err)
	}
	if f.keys != "" {
		return t.readSignedPolicy(name, f, at)
	}
	return readAs(t, name, verify.MaxPolicy, func(b []byte) (*verify.SignedPolicy, error) {
		if dsse.Is(b) {
			return nil, errors.New("this is a signed policy, and no keys are named: name those that may sign it (--policy-keys FILE)")
		}
		p, err := verify.ParsePolicy(b)
		return &verify.SignedPolicy{Policy: p}, err
	})
}

// readSignedPolicy reads a policy that the named keys must have signed.
func (t *terminal) readSignedPolicy(name string, f *policyKeyFlags, at time.Time) (*verify.SignedPolicy, error) {
	keys, err := readAs(t, f.keys, dsse.MaxKeyFile, verify.ParsePolicyKeys)
	if err != nil {
		return nil, err
	}
	keys.Threshold, keys.Least = f.threshold, f.least
	s, err := readAs(t, name, verify.MaxSignedPolicy, func(b []byte) (*verify.SignedPolicy, error) { return keys.Parse(b, at) })
	if errors.Is(err, verify.ErrPolicySignature) {
		return nil, misuse(err).withHint("have the parties of " + quoteWord(f.keys) + " sign the policy with `agentctl policy sign`")
	}
	return s, err
}

const policySignUsage = `Usage: agentctl policy sign --key FILE [--number N] [--expires TIME] [--out FILE] POLICY

Sign a policy: write an envelope (DSSE) with the policy as it is, byte for byte, and a
signature. A relying party that names keys (--policy-keys) refuses every other policy.
If POLICY is an envelope already, add a signature to it.

  --key FILE      private key that signs, PEM: Ed25519, or ECDSA on P-256. A file that
                  other users can read is refused
  --number N      rises with each policy, so that a relying party can refuse older ones
                  (--policy-number)
  --expires TIME  after this the policy is refused, as 2026-01-31 or
                  2026-01-31T12:00:00Z
  --out FILE      file to write (default: standard output)

Number and expiry are signed with the policy. A signature that is added is over them too.

Example:
  openssl genpkey -algorithm ed25519 -out policy.key && chmod 0600 policy.key
  openssl pkey -in policy.key -pubout -out policy-keys.pem
  agentctl policy sign --key policy.key --number 7 --out policy.dsse policy.toml
  agentctl verify --policy policy.dsse --policy-keys policy-keys.pem --nonce $nonce e.json
`

func policySignCommand(t *terminal) *cobra.Command {
	var key, out, expires string
	var label verify.PolicyLabel
	c := command("sign", policySignUsage, arguments("POLICY"), func(c *cobra.Command, args []string) (err error) {
		if key == "" {
			return misuse(errors.New("--key is missing: name the private key that signs")).withHint(helpHint(c))
		}
		if expires != "" {
			if label.Expires, err = parseTimeOf("--expires", expires); err != nil {
				return err
			}
		}
		if label.Number > verify.MaxPolicyNumber {
			return misuse(fmt.Errorf("--number %d: want at most %d", label.Number, uint64(verify.MaxPolicyNumber)))
		}
		b, err := t.readInput(args[0], verify.MaxSignedPolicy)
		if err != nil {
			return err
		}
		signer, err := t.readOwnKey(key)
		if err != nil {
			return err
		}
		var envelope []byte
		if dsse.Is(b) {
			if label != (verify.PolicyLabel{}) {
				return misuse(errors.New("number and expiry of a signed policy are signed with it: leave --number and --expires out, or sign the policy itself"))
			}
			envelope, err = cosign(b, signer)
		} else if _, err = verify.ParsePolicy(b); err == nil { // a policy that no verifier can read is not signed
			envelope, err = dsse.Sign(signer, label.String(), b)
		}
		if err != nil {
			return misuse(fmt.Errorf("%s: %w", args[0], err))
		}
		return t.writeOutput(out, append(envelope, '\n'))
	})
	c.Flags().StringVar(&key, "key", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	c.Flags().StringVar(&expires, "expires", "", "")
	c.Flags().Uint64Var(&label.Number, "number", 0, "")
	return c
}

// cosign adds a signature to an envelope whose payload is a policy.
func cosign(b []byte, signer crypto.Signer) ([]byte, error) {
	u, _, _, err := readEnvelope(b)
	if err != nil {
		return nil, err
	}
	return u.Add(signer)
}

const policyVerifyUsage = `Usage: agentctl policy verify-signature --policy-keys FILE [flags] POLICY

Verify the signatures of a signed policy, and say who signed it. With --out, write the
policy itself, byte for byte, for "policy explain" and other commands.

  --policy-keys FILE    public keys that may sign, PEM, one after the other
  --policy-threshold N  how many of them must have signed (default 1)
  --policy-number N     refuse a policy with a smaller number
  --at TIME             time at which it must not have expired (default: now)
  --out FILE            write the policy to this file
  --json                print as JSON

The exit code is 0 if the signatures are as demanded, otherwise 1.

Example:
  agentctl policy verify-signature --policy-keys policy-keys.pem --out policy.toml policy.dsse
`

// signedPolicy is what policy verify-signature prints as JSON.
type signedPolicy struct {
	Policy  string    `json:"policy"`           // SHA-256 of the policy, as appraisals name it
	Number  uint64    `json:"number,omitzero"`  // 0 if it has none
	Expires time.Time `json:"expires,omitzero"` // absent if it does not expire
	Signers []string  `json:"signers"`          // SHA-256 of the SubjectPublicKeyInfo of each named key that signed
}

func policyVerifyCommand(t *terminal) *cobra.Command {
	var f policyKeyFlags
	var at, out string
	c := command("verify-signature", policyVerifyUsage, arguments("POLICY"), func(c *cobra.Command, args []string) error {
		if f.keys == "" {
			return misuse(errors.New("--policy-keys is missing: name the public keys that may sign")).withHint(helpHint(c))
		}
		if err := f.check(); err != nil {
			return misuse(err)
		}
		now, err := timeOr(at, time.Now())
		if err != nil {
			return err
		}
		s, err := t.readSignedPolicy(args[0], &f, now)
		if err != nil {
			return err
		}
		if out != "" {
			if err := t.writeOutput(out, s.Text); err != nil {
				return err
			}
		}
		sum := sha256.Sum256(s.Text)
		said := signedPolicy{hex.EncodeToString(sum[:]), s.Label.Number, s.Label.Expires, s.Signers}
		if t.json {
			return t.writeJSON(said)
		}
		fmt.Fprintf(t.out, "policy %s, signed by %s\n", said.Policy, text.Count(len(said.Signers), "key"))
		for _, id := range said.Signers {
			fmt.Fprintln(t.out, "  key", id)
		}
		if said.Number != 0 {
			fmt.Fprintln(t.out, "  number", said.Number)
		}
		if !said.Expires.IsZero() {
			fmt.Fprintln(t.out, "  expires", said.Expires.Format(time.RFC3339))
		}
		return nil
	})
	f.add(c.Flags())
	c.Flags().StringVar(&at, "at", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}
