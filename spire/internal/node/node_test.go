// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

// TestParseChallenge: a machine answers only the challenge of this exchange.
func TestParseChallenge(t *testing.T) {
	good := func() Challenge {
		return Challenge{Type: Payload, Nonce: make([]byte, NonceSize), Freshness: evidence.Fresh}
	}
	for name, c := range map[string]struct {
		change func(*Challenge)
		good   bool
	}{
		"fresh":            {func(*Challenge) {}, true},
		"anchored":         {func(c *Challenge) { c.Freshness = evidence.Anchored }, true},
		"another version":  {func(c *Challenge) { c.Type = "agentd/spire/2" }, false},
		"a short nonce":    {func(c *Challenge) { c.Nonce = c.Nonce[1:] }, false},
		"a long nonce":     {func(c *Challenge) { c.Nonce = append(c.Nonce, 0) }, false},
		"without a word":   {func(c *Challenge) { c.Freshness = "" }, false},
		"another word":     {func(c *Challenge) { c.Freshness = "stale" }, false},
		"too large a text": {func(c *Challenge) { c.Type += string(make([]byte, maxChallenge)) }, false},
	} {
		x := good()
		c.change(&x)
		b, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseChallenge(b); (err == nil) != c.good || err == nil && got.Type != Payload {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "{}", `{"type":"agentd/spire/1","more":1}`} {
		if _, err := ParseChallenge([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
