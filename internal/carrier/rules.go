// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/sealing"
)

// Caps on the file of rules.
const (
	MaxRules  = 64 << 10 // bytes
	MaxSender = 4 << 10  // bytes of the file of a sender's key
	maxRules  = 256      // tables
	maxNames  = 64       // names, and senders, of one table
)

// Defaults of the file of rules.
const (
	DefaultListen   = ":8444"
	DefaultValidFor = 2 * time.Minute
)

// mostValidFor bounds valid_for: the message comes over the connection that the ticket went out by.
const mostValidFor = time.Hour

// Rules say what root lets relying parties deliver over connections, and which.
type Rules struct {
	Listen  string // address to listen on
	deliver []rule
}

// rule lets some senders deliver some secrets of one app.
type rule struct {
	app      string
	names    []string
	senders  []ed25519.PublicKey
	replace  bool   // they may replace a secret that is there
	validFor uint32 // seconds that a ticket is valid
}

// document is the file of rules.
type document struct {
	Listen  string  `toml:"listen"`
	Deliver []table `toml:"deliver"`
}

type table struct {
	App      string   `toml:"app"`
	Names    []string `toml:"names"`
	Senders  []string `toml:"senders"`
	Replace  bool     `toml:"replace"`
	ValidFor string   `toml:"valid_for"`
}

// ParseRules reads the file of rules. Sender reads the file of a sender's key.
func ParseRules(b []byte, sender func(path string) ([]byte, error)) (*Rules, error) {
	d := document{Listen: DefaultListen}
	places, err := stricttoml.Decode(b, MaxRules, &d)
	if err != nil {
		return nil, err
	}
	switch n := len(d.Deliver); {
	case d.Listen == "":
		return nil, places.Errorf("listen", "empty: want an address, as %q", DefaultListen)
	case n == 0:
		return nil, places.Errorf("deliver", "missing: without a [[deliver]] nothing may be delivered")
	case n > maxRules:
		return nil, places.Errorf("deliver", "%d tables, at most %d", n, maxRules)
	}
	r := &Rules{Listen: d.Listen}
	for i := range d.Deliver {
		x, err := d.Deliver[i].rule(fmt.Sprintf("deliver[%d].", i), places, sender)
		if err != nil {
			return nil, err
		}
		r.deliver = append(r.deliver, *x)
	}
	return r, nil
}

// rule checks a table, whose keys are below the path at.
func (t *table) rule(at string, places *stricttoml.Places, sender func(string) ([]byte, error)) (*rule, error) {
	if err := text.Check("app", t.App, 1, sealing.MaxName); err != nil {
		return nil, places.Errorf(at+"app", "%v", err)
	}
	if n := len(t.Names); n < 1 || n > maxNames {
		return nil, places.Errorf(at+"names", "%d names, want 1 to %d: each secret that may be delivered", n, maxNames)
	}
	if n := len(t.Senders); n < 1 || n > maxNames {
		return nil, places.Errorf(at+"senders", "%d senders, want 1 to %d: files with the public keys of those who may deliver", n, maxNames)
	}
	x := &rule{app: t.App, names: t.Names, replace: t.Replace}
	for i, name := range t.Names {
		if err := unitname.CheckCredential(name); err != nil {
			return nil, places.Errorf(fmt.Sprintf("%snames[%d]", at, i), "%v", err)
		}
	}
	for i, path := range t.Senders {
		b, err := sender(path)
		var key ed25519.PublicKey
		if err == nil {
			key, err = ParseSender(b)
		}
		if err != nil {
			return nil, places.Errorf(fmt.Sprintf("%ssenders[%d]", at, i), "%s: %v", path, err)
		}
		x.senders = append(x.senders, key)
	}
	validFor := DefaultValidFor
	if places.Given(at + "valid_for") {
		var err error
		if validFor, err = time.ParseDuration(t.ValidFor); err != nil || validFor < time.Second || validFor > mostValidFor {
			return nil, places.Errorf(at+"valid_for", "%q: want a time from 1s to %v, as \"2m\"", t.ValidFor, mostValidFor)
		}
	}
	x.validFor = uint32(validFor / time.Second)
	return x, nil
}

// ParseSender reads the public half of a sender's key, in PEM.
func ParseSender(b []byte) (ed25519.PublicKey, error) {
	p, rest := pem.Decode(b)
	if p == nil || p.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("want one PEM block \"PUBLIC KEY\"")
	}
	key, err := x509.ParsePKIXPublicKey(p.Bytes)
	public, ok := key.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("want the public half of an Ed25519 key")
	}
	return public, delivery.CheckSender(public)
}

// knows reports whether a key may deliver anything.
func (r *Rules) knows(sender ed25519.PublicKey) bool {
	return slices.ContainsFunc(r.deliver, func(x rule) bool { return x.has(sender) })
}

func (x *rule) has(sender ed25519.PublicKey) bool {
	return slices.ContainsFunc(x.senders, func(k ed25519.PublicKey) bool { return k.Equal(sender) })
}

// permits returns the rule by which a sender may have a ticket, or nil.
func (r *Rules) permits(sender ed25519.PublicKey, a *delivery.Ask) *rule {
	for i := range r.deliver {
		x := &r.deliver[i]
		if x.app == a.App && slices.Contains(x.names, a.Name) && x.has(sender) && (x.replace || !a.Replace) {
			return x
		}
	}
	return nil
}
