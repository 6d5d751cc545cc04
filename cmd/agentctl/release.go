// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/verify"
)

// releaseFlags say what a release is, and the key that signs it.
type releaseFlags struct {
	key          string
	number       uint64
	measurements []string
	products     []string
	policy       string
	validFor     time.Duration
}

func (r *releaseFlags) define(f *pflag.FlagSet) {
	f.StringVar(&r.key, "release-key", "", "")
	f.Uint64Var(&r.number, "number", 0, "")
	f.StringArrayVar(&r.measurements, "measurement", nil, "")
	f.StringArrayVar(&r.products, "product", nil, "")
	f.StringVar(&r.policy, "policy", "", "")
	f.DurationVar(&r.validFor, "valid-for", 24*time.Hour, "")
}

// policyText returns the policy that successors must meet: of a file, or with the launch
// measurements alone.
func (t *terminal) policyText(r *releaseFlags) ([]byte, error) {
	if r.policy != "" {
		if len(r.measurements)+len(r.products) > 0 {
			return nil, misuse(errors.New("--policy lists measurements and products itself: leave --measurement and --product out"))
		}
		b, err := t.readInput(r.policy, transfer.MaxRelease)
		if err != nil {
			return nil, err
		}
		_, err = verify.ParsePolicy(b)
		return b, misuseIf(err)
	}
	if len(r.measurements) == 0 {
		return nil, misuse(errors.New("--measurement is missing: name the launch measurements of the successors, or a --policy")).
			withHint("`agentctl policy launch` computes launch measurements from the files of an image")
	}
	p := &verify.Policy{Version: verify.PolicyVersion}
	p.Products = r.products
	for _, text := range r.measurements {
		m, err := t.parseBytes("--measurement", text, 48, 48)
		if err != nil {
			return nil, err
		}
		p.Launches = append(p.Launches, verify.Launch{Measurement: hex.EncodeToString(m), Kind: "plain", Covers: "firmware"})
	}
	b, err := p.Encode()
	return b, misuseIf(err)
}

// sign makes a release statement, and signs it.
func (t *terminal) signRelease(r *releaseFlags, now time.Time) (statement, signature []byte, err error) {
	if r.validFor < time.Second {
		return nil, nil, misuse(fmt.Errorf("--valid-for %v: want a second or more", r.validFor))
	}
	if r.number == 0 || r.number > transfer.MaxNumber {
		return nil, nil, misuse(fmt.Errorf("--number %d: want 1 to %d; a later release has a higher one", r.number, uint64(transfer.MaxNumber)))
	}
	policy, err := t.policyText(r)
	if err != nil {
		return nil, nil, err
	}
	statement, err = strictjson.Encode(transfer.Release{Type: transfer.ReleaseType, Number: r.number,
		NotAfter: now.Add(r.validFor).UTC().Format("2006-01-02T15:04:05Z"), Policy: string(policy)})
	if err != nil {
		return nil, nil, misuse(err)
	}
	key, err := t.readPrivateKey(r.key)
	if err != nil {
		return nil, nil, err
	}
	signature, err = signStatement(key, statement)
	return statement, signature, misuseIf(err)
}

// signStatement signs the exact bytes of a statement as a release key does.
func signStatement(key crypto.Signer, statement []byte) ([]byte, error) {
	var hash crypto.Hash
	digest := statement
	switch k := key.(type) {
	case ed25519.PrivateKey:
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			hash = crypto.SHA256
		case elliptic.P384():
			hash = crypto.SHA384
		default:
			return nil, fmt.Errorf("--release-key: an ECDSA key over %s, want P-256 or P-384", k.Curve.Params().Name)
		}
		h := hash.New()
		h.Write(statement)
		digest = h.Sum(nil)
	default:
		return nil, errors.New("--release-key: want an Ed25519 key, or an ECDSA key over P-256 or P-384")
	}
	return key.Sign(rand.Reader, digest, hash)
}

func keySignRelease(t *terminal) *cobra.Command {
	var r releaseFlags
	var release, signature string
	c := command("sign-release", keySignReleaseUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if r.key == "" || release == "" || signature == "" {
			return misuse(errors.New("--release-key, --release or --signature is missing")).withHint(helpHint(c))
		}
		statement, signed, err := t.signRelease(&r, time.Now())
		if err != nil {
			return err
		}
		if err := t.writeOutput(release, statement); err != nil {
			return err
		}
		return t.writeOutput(signature, signed)
	})
	r.define(c.Flags())
	c.Flags().StringVar(&release, "release", "", "")
	c.Flags().StringVar(&signature, "signature", "", "")
	return c
}
