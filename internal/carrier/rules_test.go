// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

func now() time.Time { return evidencetest.Time }

func trusted(t testing.TB) verify.Roots { return verify.Roots{SNP: evidencetest.Roots(t)} }

// TestRules: what root wrote is what is permitted, and what is not clear is refused, at its place.
func TestRules(t *testing.T) {
	r, err := ParseRules([]byte(listed), files(t))
	must(t, err)
	if len(r.deliver) != 3 || r.deliver[0].validFor != 120 || r.deliver[1].validFor != 90 || r.Listen != "127.0.0.1:0" {
		t.Errorf("%+v", r)
	}
	if !r.knows(public(sender)) || !r.knows(public(other)) || r.knows(public(stranger)) {
		t.Error("other senders are known than listed")
	}
	if r, err := ParseRules([]byte(listed[strings.Index(listed, "\n"):]), files(t)); err != nil || r.Listen != DefaultListen {
		t.Errorf("without listen: %v, %v", r, err)
	}
	one := listed[strings.Index(listed, "[["):strings.Index(listed, "[[deliver]]\napp = \"billing\"\nnames = [\"cert")]
	many := func(n int, s string) string { return strings.Repeat(s+", ", n-1) + s }
	for want, change := range map[string]string{
		"listen":           "listen = \"\"\n" + one,
		"deliver: missing": "listen = \":1\"\n",
		"257 tables":       strings.Repeat(one, maxRules+1),
		"app":              strings.Replace(one, `"billing"`, `""`, 1),
		"0 names":          strings.Replace(one, `"token", "password"`, ``, 1),
		"65 names":         strings.Replace(one, `"token", "password"`, many(maxNames+1, `"x"`), 1),
		"names[1]":         strings.Replace(one, `"password"`, `"../password"`, 1),
		"0 senders":        strings.Replace(one, `"sender.pem", "other.pem"`, ``, 1),
		"65 senders":       strings.Replace(one, `"sender.pem", "other.pem"`, many(maxNames+1, `"sender.pem"`), 1),
		"no file x.pem":    strings.Replace(one, `"other.pem"`, `"x.pem"`, 1),
		"valid_for":        one + "valid_for = \"61m\"\n",
		"\"999ms\"":        one + "valid_for = \"999ms\"\n",
		"\"\": want":       one + "valid_for = \"\"\n",
		"any":              one + "any_sender = true\n",
		"at most 65536":    one + "#" + strings.Repeat("x", MaxRules),
	} {
		if _, err := ParseRules([]byte(change), files(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := ParseRules([]byte(one+"valid_for = \"1h\"\n"), files(t)); err != nil {
		t.Error(err)
	}
}

// TestSenderKeys: the file of a sender is the public half of one Ed25519 key.
func TestSenderKeys(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	good := string(pemOf(t, public(sender)))
	if key, err := ParseSender([]byte(good)); err != nil || !key.Equal(public(sender)) {
		t.Errorf("%x, %v", key, err)
	}
	for what, b := range map[string]string{
		"nothing": "", "text": "hello", "two": good + good, "another kind": string(pemOf(t, ec.Public())), "another block": strings.ReplaceAll(good, "PUBLIC KEY", "PRIVATE KEY"),
		"of a small order": string(pemOf(t, public(make([]byte, 64)))), "cut": fmt.Sprint(good[:40]),
	} {
		if key, err := ParseSender([]byte(b)); err == nil {
			t.Errorf("%s: %x", what, key)
		}
	}
}
