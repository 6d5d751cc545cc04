// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/delivery"
)

// TestAsk: a request for a ticket has one spelling, and names a secret.
func TestAsk(t *testing.T) {
	good := &delivery.Ask{Challenge: delivery.Challenge{7}, App: "billing", Name: "token", Replace: true}
	b := good.Encode()
	again, err := delivery.ParseAsk(b)
	must(t, err)
	if *again != *good {
		t.Errorf("%+v", again)
	}
	for i := range b {
		if _, err := delivery.ParseAsk(b[:i]); err == nil {
			t.Errorf("cut after %d bytes", i)
		}
	}
	last := bytes.Clone(b)
	last[len(last)-1] = 2
	for what, b := range map[string][]byte{
		"more after it": append(bytes.Clone(b), 0), "neither 0 nor 1": last, "too large": append(bytes.Clone(b), make([]byte, delivery.MaxAsk)...),
		"no app":           (&delivery.Ask{Name: "token"}).Encode(),
		"no name":          (&delivery.Ask{App: "billing"}).Encode(),
		"an app of lines":  (&delivery.Ask{App: "a\nb", Name: "token"}).Encode(),
		"a name of a path": (&delivery.Ask{App: "billing", Name: "a/b"}).Encode(),
		"a long app":       (&delivery.Ask{App: strings.Repeat("a", 257), Name: "token"}).Encode(),
	} {
		if a, err := delivery.ParseAsk(b); !errors.Is(err, api.CodeMalformedMessage) {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
}

// TestRefusal: a refusal is a code, known or not, and nothing that a screen would not show.
func TestRefusal(t *testing.T) {
	for _, code := range []api.Code{api.CodeBusy, "one-of-a-later-version"} {
		b := delivery.EncodeRefusal(code)
		if got, err := delivery.ParseRefusal(b); err != nil || got != code || !delivery.IsRefusal(b) {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, code := range []string{"", "a b", "A", "a\x1b[2J", strings.Repeat("a", 65)} {
		if got, err := delivery.ParseRefusal(delivery.EncodeRefusal(api.Code(code))); err == nil {
			t.Errorf("%q is taken for %q", code, got)
		}
	}
	b := delivery.EncodeRefusal(api.CodeBusy)
	if _, err := delivery.ParseRefusal(append(b, 0)); err == nil {
		t.Error("more after a refusal")
	}
	if delivery.IsRefusal([]byte("agentd/delivery/receipt/1\n")) || delivery.IsSealed(b) || !delivery.IsSealed([]byte("agentd/delivery/sealed/1\n")) {
		t.Error("one message is taken for another")
	}
}
