// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/internal/store"
)

// TestRecipientIsNotRepeated: case 75. A user who pastes the identity in place of its
// recipient does not find it, or a part of it, in an error: errors end in logs.
func TestRecipientIsNotRepeated(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	must(t, err)
	secret := id.String()
	w := newWorld()
	s := w.ready(t)
	for _, c := range []struct{ text, says string }{
		{secret, "found an identity"},
		{strings.ToLower(secret), "found an identity"},
		{" " + secret + "\n", "found an identity"},
		{"x" + secret, "found 75 bytes of text"},
		{"age1" + strings.ToLower(secret), "found 78 bytes of text"},
		{id.Recipient().String() + "\n", "found 63 bytes of text"},
		{strings.ToUpper(id.Recipient().String()), "found 62 bytes of text"},
		{"", "found 0 bytes of text"},
	} {
		_, opened := store.Open(t.Context(), store.Config{Files: w.files, Recipients: []string{id.Recipient().String(), c.text}})
		_, changed := s.ChangeRecipients(t.Context(), []string{id.Recipient().String(), c.text}, false)
		for what, err := range map[string]error{"open": opened, "change": changed} {
			if err == nil {
				t.Errorf("%s took %d bytes", what, len(c.text))
				continue
			}
			text := everything(err) + err.Error()
			if !strings.Contains(text, c.says) || !strings.Contains(text, "recovery recipient 2") {
				t.Errorf("%s: %v, want %q", what, err, c.says)
			}
			for i := 0; i+8 <= len(secret); i++ {
				if part := secret[i : i+8]; i >= len("AGE-SECRET-KEY-1") && strings.Contains(strings.ToUpper(text), part) {
					t.Fatalf("%s: the error repeats %q", what, part)
				}
			}
		}
	}
}
