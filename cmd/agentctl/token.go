// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

const tokenUsage = `Usage: agentctl token COMMAND

Look after the keys that sign attestation results as tokens. "agentctl verify --token"
makes the tokens, and docs/tokens.md says what is in them.

  jwks    public keys as a JWK Set, as relying parties read it

Examples:
  agentctl token jwks token.key > jwks.json
`

const tokenJWKSUsage = `Usage: agentctl token jwks KEY...

Print public keys as a JWK Set (RFC 7517), as secret stores and policy engines read it.
Each key has its thumbprint as kid (RFC 7638). During a change of keys, list both.

A KEY is a file in PEM: a private key that signs tokens, or its public half. Nothing of a
private key is printed. "-" is standard input.

Examples:
  openssl genpkey -algorithm ed25519 -out token.key
  agentctl token jwks token.key > jwks.json
  openssl pkey -in token.key -pubout | agentctl token jwks -
`

func tokenCommand(t *terminal) *cobra.Command {
	return group(t, "token", tokenUsage, tokenJWKS(t))
}

func tokenJWKS(t *terminal) *cobra.Command {
	return command("jwks", tokenJWKSUsage, cobra.MinimumNArgs(1), func(_ *cobra.Command, args []string) error {
		var keys []crypto.PublicKey
		for _, name := range args {
			k, err := t.readTokenPublicKey(name)
			if err != nil {
				return err
			}
			keys = append(keys, k)
		}
		b, err := ear.KeySet(keys...)
		if err != nil {
			return misuse(err)
		}
		_, err = t.out.Write(append(b, '\n'))
		return err
	})
}

// tokenFlags say which token verify makes.
type tokenFlags struct {
	out, key, profile string
	options           ear.Options
}

// profiles are the profiles of tokens, by the names that --token-profile takes.
var profiles = map[string]ear.Profile{"2023": ear.Profile2023, "2026": ear.Profile2026}

func (f *tokenFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.out, "token", "", "")
	flags.StringVar(&f.key, "token-key", "", "")
	flags.StringVar(&f.options.Audience, "token-audience", "", "")
	flags.StringVar(&f.options.Issuer, "token-issuer", "", "")
	flags.DurationVar(&f.options.Lifetime, "token-lifetime", ear.DefaultLifetime, "")
	flags.StringVar(&f.profile, "token-profile", "2023", "")
	flags.BoolVar(&f.options.Machine, "token-names-machine", false, "")
	flags.BoolVar(&f.options.Refused, "token-if-refused", false, "")
}

// check refuses flags that make no token, or one that would say what was not shown.
func (f *tokenFlags) check(kind verify.Material, acceptReplay, quiet bool) error {
	o := &f.options
	if f.out == "" {
		return f.none()
	}
	profile, known := profiles[f.profile]
	o.Profile, o.Build = profile, "agentctl "+version.Version
	switch {
	case f.key == "":
		return errors.New("--token without --token-key: name the private key that signs it")
	case o.Audience == "":
		return errors.New("--token without --token-audience: a token for any audience can be used against all of them")
	case !known:
		return fmt.Errorf("--token-profile %q: want one of %v", f.profile, slices.Sorted(maps.Keys(profiles)))
	case o.Lifetime < time.Second || o.Lifetime > ear.MaxLifetime:
		return fmt.Errorf("--token-lifetime %v: want %v to %v", o.Lifetime, time.Second, ear.MaxLifetime)
	case f.out == "-" && !quiet:
		return errors.New("--token - would mix with the appraisal: add --quiet, or name a file")
	case kind != verify.MaterialEvidence:
		return errors.New("--token is for evidence: other material does not answer a nonce in all its parts")
	case acceptReplay:
		return errors.New("--token with --accept-replay would make old evidence look new: give --nonce")
	}
	return nil
}

// none refuses flags about a token that is not asked for.
func (f *tokenFlags) none() error {
	o := &f.options
	for _, x := range []struct {
		name  string
		given bool
	}{
		{"key", f.key != ""}, {"audience", o.Audience != ""}, {"issuer", o.Issuer != ""}, {"lifetime", o.Lifetime != ear.DefaultLifetime},
		{"profile", f.profile != "2023"}, {"names-machine", o.Machine}, {"if-refused", o.Refused},
	} {
		if x.given {
			return fmt.Errorf("--token-%s without --token: name the file for the token", x.name)
		}
	}
	return nil
}

// writeToken writes the token of an appraisal, with what its options say. Of refused evidence it writes
// one only if --token-if-refused says so.
func (t *terminal) writeToken(f *tokenFlags, key *ear.Key, o *appraisalInputs, a *verify.Appraisal) error {
	if key == nil || a.Verdict != verify.Pass && !f.options.Refused {
		return nil
	}
	options := f.options
	options.Nonce = o.Nonce
	token, err := ear.Token(key, o.policy, a, options)
	if err != nil {
		return misuse(fmt.Errorf("no token was written: %w", err))
	}
	return t.writeSecretOutput(f.out, append(token, '\n')) // a party that has it can present it
}

// readTokenKey reads the private key that signs tokens; nil if no token was asked for.
func (t *terminal) readTokenKey(f *tokenFlags) (*ear.Key, error) {
	if f.out == "" {
		return nil, nil
	}
	signer, err := t.readOwnKey(f.key)
	if err != nil {
		return nil, err
	}
	key, err := ear.NewKey(signer)
	if err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", f.key, err)).withHint("`openssl genpkey -algorithm ed25519 -out FILE` makes one")
	}
	return key, nil
}

// readTokenPublicKey reads the public half of a key that signs tokens, from either half.
func (t *terminal) readTokenPublicKey(name string) (crypto.PublicKey, error) {
	b, err := t.readInput(name, maxPrivateKey)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	if p, _ := pem.Decode(b); p != nil && p.Type == "PUBLIC KEY" {
		k, err := x509.ParsePKIXPublicKey(p.Bytes)
		if err != nil {
			return nil, misuse(fmt.Errorf("%s: %w", name, err))
		}
		return k, nil
	}
	if name != "-" {
		private, err := t.readSecretInput(name, maxPrivateKey)
		if err != nil {
			return nil, err
		}
		defer clear(private)
		b = private
	}
	signer, err := t.parsePrivateKey(name, b)
	if err != nil {
		return nil, err
	}
	return signer.Public(), nil
}

// readSecretInput reads a file that only its owner can read. Another user who can read the key that
// signs tokens can claim anything, and one who can read a sender's key can choose a secret.
func (t *terminal) readSecretInput(name string, limit int) ([]byte, error) {
	if name == "" || name == "-" {
		return t.readInput(name, limit)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, misuse(err)
	}
	defer f.Close()
	at, err := f.Stat()
	if err != nil {
		return nil, misuse(err)
	}
	owner, ok := at.Sys().(*syscall.Stat_t)
	switch {
	case at.Mode().Perm()&0o077 != 0:
		return nil, misuse(fmt.Errorf("%s has mode %#o: other users can read or change the private key", name, at.Mode().Perm())).withHint("`chmod 0600 " + quoteWord(name) + "`; if other users could read it until now, make a new key")
	case !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return nil, misuse(fmt.Errorf("%s belongs to another user, who can read and change the private key", name))
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, misuse(fmt.Errorf("read %s: %w", name, durable.Cause(err)))
	}
	if len(b) > limit {
		return nil, misuse(fmt.Errorf("read %s: %w: more than %d bytes", name, errTooLarge, limit))
	}
	return b, nil
}
