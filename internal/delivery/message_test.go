// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sender and agent are keys of the two sides.
var sender, agent = evidencetest.Key('s'), evidencetest.Key('a')

func public(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }

// signed returns the key that signs for a ticket, nil if it names none.
func signed(by []byte) crypto.Signer {
	if by == nil {
		return nil
	}
	return sender
}

// example is a ticket whose evidence is not looked at, with the private half of its key.
func example(t testing.TB, by []byte) (*delivery.Ticket, *secret.Secret) {
	t.Helper()
	seed, key, err := message.NewKey()
	must(t, err)
	x := &delivery.Ticket{Challenge: delivery.Challenge{1}, Public: key, App: "billing", Name: "db-password", Digest: evidence.Digest{2}, ValidFor: 60, Sender: by, Evidence: []byte("evidence")}
	must(t, x.Vouch(agent))
	return x, seed
}

// opened returns what a message contains.
func opened(b []byte, x *delivery.Ticket, seed *secret.Secret) (string, error) {
	s, err := delivery.ParseSealed(b)
	if err != nil {
		return "", err
	}
	data, err := x.Open(s, seed)
	if err != nil {
		return "", err
	}
	defer data.Wipe()
	var out string
	err = data.Use(func(b []byte) error { out = string(b); return nil })
	return out, err
}

func receipt(t testing.TB, x *delivery.Ticket, s *delivery.Sealed) *delivery.Receipt {
	t.Helper()
	r := &delivery.Receipt{Ticket: x.ID(), Sealed: s.Digest()}
	must(t, r.Vouch(agent))
	return r
}

// TestMessages: what is written is read again, and nothing else: no byte more, none less, and not
// another message.
func TestMessages(t *testing.T) {
	x, seed := example(t, public(sender))
	s, err := x.Seal([]byte("hunter2"), sender)
	must(t, err)
	messages := map[string][]byte{"ticket": x.Encode(), "sealed": s.Encode(), "receipt": receipt(t, x, s).Encode()}
	parsers := map[string]func([]byte) error{
		"ticket":  func(b []byte) error { _, err := delivery.ParseTicket(b); return err },
		"sealed":  func(b []byte) error { _, err := delivery.ParseSealed(b); return err },
		"receipt": func(b []byte) error { _, err := delivery.ParseReceipt(b); return err },
	}
	for name, parse := range parsers {
		for other, b := range messages {
			if err := parse(b); (err == nil) != (name == other) {
				t.Errorf("%s read as %s: %v", other, name, err)
			}
		}
		b := messages[name]
		for n := range len(b) {
			if err := parse(b[:n]); !errors.Is(err, api.CodeMalformedMessage) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		if err := parse(append(bytes.Clone(b), 0)); !errors.Is(err, api.CodeMalformedMessage) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
	y, err := delivery.ParseTicket(messages["ticket"])
	must(t, err)
	if y.ID() != x.ID() || !bytes.Equal(y.Encode(), messages["ticket"]) {
		t.Error("a ticket is read as another one")
	}
	if got, err := opened(messages["sealed"], y, seed); err != nil || got != "hunter2" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestTicketFields: a reader refuses what no agent writes.
func TestTicketFields(t *testing.T) {
	for name, change := range map[string]func(*delivery.Ticket){
		"no app":              func(x *delivery.Ticket) { x.App = "" },
		"an app with a line":  func(x *delivery.Ticket) { x.App = "a\nb" },
		"a long app":          func(x *delivery.Ticket) { x.App = strings.Repeat("a", sealing.MaxName+1) },
		"no name":             func(x *delivery.Ticket) { x.Name = "" },
		"a name with a slash": func(x *delivery.Ticket) { x.Name = "a/b" },
		"a long name":         func(x *delivery.Ticket) { x.Name = strings.Repeat("a", 201) },
		"no time":             func(x *delivery.Ticket) { x.ValidFor = 0 },
		"more than a day":     func(x *delivery.Ticket) { x.ValidFor = delivery.MaxValidity + 1 },
		"a short sender":      func(x *delivery.Ticket) { x.Sender = make([]byte, 31) },
		"a sender of order 1": func(x *delivery.Ticket) { x.Sender = append([]byte{1}, make([]byte, 31)...) },
		"no evidence":         func(x *delivery.Ticket) { x.Evidence = nil },
		"a short signature":   func(x *delivery.Ticket) { x.Signature = x.Signature[1:] },
		"more than 2.5 MiB":   func(x *delivery.Ticket) { x.Evidence = make([]byte, delivery.MaxTicket) },
	} {
		x, _ := example(t, nil)
		change(x)
		if _, err := delivery.ParseTicket(x.Encode()); !errors.Is(err, api.CodeMalformedMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	x, _ := example(t, nil)
	b := x.Encode()
	at := bytes.Index(b, []byte("db-password")) + len("db-password") + 4 + 32 + 4 // the mark of a replacement
	b[at] = 2
	if _, err := delivery.ParseTicket(b); !errors.Is(err, api.CodeMalformedMessage) {
		t.Errorf("a mark that is neither 0 nor 1: %v", err)
	}
}

// TestSizes: a secret of each size class opens, and the message tells its size only in steps of 256.
func TestSizes(t *testing.T) {
	sizes := map[int]bool{}
	for _, n := range []int{1, 2, 251, 252, 253, 508, 509, sealing.MaxSecret - 1, sealing.MaxSecret} {
		x, seed := example(t, nil)
		s, err := x.Seal(bytes.Repeat([]byte{'x'}, n), nil)
		must(t, err)
		b := s.Encode()
		if got, err := opened(b, x, seed); err != nil || len(got) != n {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
		if len(s.Ciphertext)%256 != 16 || len(b) > delivery.MaxSealed {
			t.Errorf("%d bytes: a ciphertext of %d, a message of %d", n, len(s.Ciphertext), len(b))
		}
		sizes[len(b)] = true
	}
	if len(sizes) != 4 {
		t.Errorf("%d sizes of messages, want 4", len(sizes))
	}
	x, _ := example(t, nil)
	for _, n := range []int{0, sealing.MaxSecret + 1} {
		if _, err := x.Seal(make([]byte, n), nil); !errors.Is(err, api.CodeInvalidValue) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestChangedMessage: case 130. No message opens of which one byte was changed, by any bit, signed or
// not. Without a signature, too, each byte counts.
func TestChangedMessage(t *testing.T) {
	for name, by := range map[string][]byte{"signed": public(sender), "unsigned": nil} {
		x, seed := example(t, by)
		s, err := x.Seal([]byte("hunter2"), signed(by))
		must(t, err)
		b := s.Encode()
		codes := map[api.Code]int{}
		for i := range b {
			changed := bytes.Clone(b)
			changed[i] ^= 1 << (i % 8)
			got, err := opened(changed, x, seed)
			if err == nil || got != "" {
				t.Fatalf("%s: byte %d of %d is changed, and the message opens: %q", name, i, len(b), got)
			}
			codes[sealing.CodeOf(err)]++
		}
		t.Logf("%s: %v", name, codes)
		second := api.CodeDeliveryChanged
		if by != nil {
			second = api.CodeOtherSender
		}
		if len(codes) != 3 || codes[api.CodeMalformedMessage] == 0 || codes[api.CodeTicketUnknown] != 32 || codes[second] < 1300 {
			t.Errorf("%s: codes %v", name, codes)
		}
	}
}

// TestMessageForOneTicket: case 130. A message opens for its ticket alone, whatever an attacker
// changes in the ticket or writes as its id.
func TestMessageForOneTicket(t *testing.T) {
	x, seed := example(t, nil)
	s, err := x.Seal([]byte("hunter2"), nil)
	must(t, err)
	other, otherSeed := example(t, nil)
	for name, change := range map[string]func(*delivery.Ticket){
		"challenge":   func(x *delivery.Ticket) { x.Challenge[0] ^= 1 },
		"key":         func(x *delivery.Ticket) { x.Public = other.Public },
		"app":         func(x *delivery.Ticket) { x.App = "ledger" },
		"name":        func(x *delivery.Ticket) { x.Name = "token" },
		"digest":      func(x *delivery.Ticket) { x.Digest[0] ^= 1 },
		"replacement": func(x *delivery.Ticket) { x.Replace = true },
		"validity":    func(x *delivery.Ticket) { x.ValidFor++ },
	} {
		y := *x
		change(&y)
		if _, err := y.Open(s, seed); !errors.Is(err, api.CodeTicketUnknown) {
			t.Errorf("another %s: %v", name, err)
		}
		z := *s
		z.Ticket = y.ID()
		if _, err := y.Open(&z, seed); !errors.Is(err, api.CodeDeliveryChanged) {
			t.Errorf("another %s, and the message claims it: %v", name, err)
		}
	}
	if _, err := x.Open(s, otherSeed); !errors.Is(err, api.CodeDeliveryChanged) {
		t.Errorf("another key: %v", err)
	}
}

// TestSender: case 130. If a ticket names a sender, nothing but what that sender signed opens; if it
// names none, nothing that is signed.
func TestSender(t *testing.T) {
	x, seed := example(t, public(sender))
	free, freeSeed := example(t, nil)
	for name, c := range map[string]struct {
		x    *delivery.Ticket
		seed *secret.Secret
		by   crypto.Signer
		code api.Code
	}{
		"the sender":                      {x, seed, sender, ""},
		"no signature":                    {x, seed, nil, api.CodeOtherSender},
		"another sender":                  {x, seed, evidencetest.Key('t'), api.CodeOtherSender},
		"no sender":                       {free, freeSeed, nil, ""},
		"a signature that was not wanted": {free, freeSeed, sender, api.CodeOtherSender},
	} {
		s, err := c.x.Seal([]byte("hunter2"), c.by)
		must(t, err)
		if _, err := opened(s.Encode(), c.x, c.seed); sealing.CodeOf(err) != c.code || (err == nil) != (c.code == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The signature is over the ticket too: of another one it does not count.
	s, err := free.Seal([]byte("hunter2"), sender)
	must(t, err)
	s.Ticket = x.ID()
	if _, err := opened(s.Encode(), x, seed); !errors.Is(err, api.CodeOtherSender) {
		t.Errorf("a message of another ticket: %v", err)
	}
}

// TestReceiptForOneMessage: case 130. A receipt is of one ticket and one message, by one agent.
func TestReceiptForOneMessage(t *testing.T) {
	x, _ := example(t, nil)
	s, err := x.Seal([]byte("hunter2"), nil)
	must(t, err)
	good := receipt(t, x, s)
	must(t, good.Verify(public(agent), x.ID(), s.Digest()))
	b := good.Encode()
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 1
		r, err := delivery.ParseReceipt(changed)
		if err == nil {
			err = r.Verify(public(agent), x.ID(), s.Digest())
		}
		if !errors.Is(err, api.CodeReceiptForged) && !errors.Is(err, api.CodeMalformedMessage) {
			t.Fatalf("byte %d is changed: %v", i, err)
		}
	}
	for name, err := range map[string]error{
		"another agent":   good.Verify(public(sender), x.ID(), s.Digest()),
		"no agent":        good.Verify(nil, x.ID(), s.Digest()),
		"another ticket":  good.Verify(public(agent), evidence.Digest{1}, s.Digest()),
		"another message": good.Verify(public(agent), x.ID(), evidence.Digest{1}),
	} {
		if !errors.Is(err, api.CodeReceiptForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What the agent signs of a ticket is not a receipt.
	ticket := &delivery.Receipt{Ticket: x.ID(), Sealed: s.Digest(), Signature: x.Signature}
	if err := ticket.Verify(public(agent), x.ID(), s.Digest()); !errors.Is(err, api.CodeReceiptForged) {
		t.Errorf("the signature of the ticket: %v", err)
	}
}

// TestPlaintext: what is encrypted has one spelling: a length, a secret of that length, and as few zeros as
// there must be. A sender with the right key who writes something else is refused.
func TestPlaintext(t *testing.T) {
	x, seed := example(t, nil)
	id := x.ID()
	plain := func(size, length int, at int, value byte) []byte {
		b := make([]byte, size)
		binary.BigEndian.PutUint32(b, uint32(length))
		b[at] = value
		return b
	}
	for name, c := range map[string]struct {
		plain []byte
		ok    bool
	}{
		"good":                    {plain(256, 252, 5, 'x'), true},
		"good, of two blocks":     {plain(512, 253, 5, 'x'), true},
		"no secret":               {plain(256, 0, 5, 0), false},
		"longer than it says":     {plain(512, 252, 5, 'x'), false},
		"shorter than it says":    {plain(256, 253, 5, 'x'), false},
		"what is not a zero":      {plain(256, 7, 255, 1), false},
		"a block that is not one": {plain(257, 252, 5, 'x'), false},
		"a length above all":      {plain(256, 1<<32-1, 5, 'x'), false},
	} {
		enc, to, err := message.NewSender(x.Public, evidence.Preimage("agentd/delivery/hpke/1", id[:]))
		must(t, err)
		ciphertext, err := to.Seal(nil, c.plain)
		must(t, err)
		_, err = opened((&delivery.Sealed{Ticket: id, Enc: enc, Ciphertext: ciphertext}).Encode(), x, seed)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, api.CodeDeliveryChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecord: the file of a delivery is read strictly.
func TestRecord(t *testing.T) {
	r := &delivery.Record{Type: delivery.RecordType, Challenge: make([]byte, 32), Made: 7, Sent: &delivery.Sent{App: "billing", Name: "token", Ticket: evidence.Digest{1}, Sealed: evidence.Digest{2}, AgentKey: make([]byte, 32)}, Stored: true}
	good, err := r.Encode()
	must(t, err)
	again, err := delivery.ParseRecord(good)
	must(t, err)
	if b, err := again.Encode(); err != nil || !bytes.Equal(b, good) {
		t.Errorf("%s, %v", b, err)
	}
	for _, c := range [][2]string{
		{"delivery/1", "delivery/2"}, {`"made":7`, `"made":-7`}, {`"made":7`, `"made":7,"made":7`}, {`"made":7`, `"made":7,"more":1`},
		{`"billing"`, `"a\nb"`}, {`"token"`, `"a/b"`}, {"AAAAAAAA", "AAAA"}, {"}\n", "}{}\n"},
	} {
		b := strings.Replace(string(good), c[0], c[1], 1)
		if _, err := delivery.ParseRecord([]byte(b)); b == string(good) || err == nil {
			t.Errorf("%s: %v", b, err)
		}
	}
	r.Sent.AgentKey = make([]byte, 31)
	b, err := r.Encode()
	must(t, err)
	if _, err := delivery.ParseRecord(b); err == nil {
		t.Error("a short agent key")
	}
	r.Sent = nil
	b, err = r.Encode()
	must(t, err)
	if _, err := delivery.ParseRecord(b); err == nil {
		t.Error("stored, and nothing was sent")
	}
}

// FuzzMessages: what a parser accepts it writes again, byte for byte, and nothing that was not sealed
// opens.
func FuzzMessages(f *testing.F) {
	x, seed := example(f, nil)
	s, err := x.Seal([]byte("hunter2"), nil)
	must(f, err)
	sealed := s.Encode()
	f.Add(x.Encode())
	f.Add(sealed)
	f.Add(receipt(f, x, s).Encode())
	f.Add((&delivery.Ask{App: "billing", Name: "token", Replace: true}).Encode())
	f.Add(delivery.EncodeRefusal("busy"))
	f.Add([]byte(`{"type":"agentd/delivery/1","challenge":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","made":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if y, err := delivery.ParseTicket(b); err == nil && !bytes.Equal(y.Encode(), b) {
			t.Error("a ticket has two spellings")
		}
		if r, err := delivery.ParseReceipt(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Error("a receipt has two spellings")
		}
		if s, err := delivery.ParseSealed(b); err == nil && !bytes.Equal(s.Encode(), b) {
			t.Error("a message has two spellings")
		}
		if got, err := opened(b, x, seed); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("another message opens: %q", got)
		}
		if a, err := delivery.ParseAsk(b); err == nil && !bytes.Equal(a.Encode(), b) {
			t.Error("a request for a ticket has two spellings")
		}
		if code, err := delivery.ParseRefusal(b); err == nil && !bytes.Equal(delivery.EncodeRefusal(code), b) {
			t.Error("a refusal has two spellings")
		}
		_, _ = delivery.ParseRecord(b)
	})
}
