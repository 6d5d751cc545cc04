// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
)

// TestEnrolmentsApart: by files and over a connection, a machine whose key only a list apart from the
// policy has gets a secret once a party approved it, and not before.
func TestEnrolmentsApart(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	text, err := os.ReadFile(filepath.Join(b.home, "billing.toml"))
	must(t, err)
	b.file("billing.toml", append([]byte("outside_enrolments = \"approved\"\n"), text...))
	pending, approved := b.file("pending", relying.Enrolment(t, b.Machine, "")), filepath.Join(b.home, "approved")
	must(t, os.Mkdir(approved, 0o700))
	must(t, os.WriteFile(filepath.Join(approved, "machine.json"), relying.Enrolment(t, b.Machine, "alice"), 0o600))
	c := b.serve(delivery.Unit)
	b.ticket("d", "token")
	for what, more := range map[string][]string{"no list": nil, "pending": {"--enrolments", pending}} {
		b.refused("by files, "+what, "", 5, "hunter2", b.sending("d", "token", more...)...)
		b.refused("over a connection, "+what, "", 5, "hunter2", b.over(c.address, more...)...)
	}
	if got := b.stored(); got != "" {
		t.Errorf("stored: %s", got)
	}
	b.do("", "secret", "receive", b.file("message", b.send("d", "token", "hunter2", "--enrolments", approved)))
	if got := b.loaded("billing.service", "token"); got != "hunter2" {
		t.Errorf("by files, the unit gets %q", got)
	}
	b.do("swordfish", b.over(c.address, "--replace", "--enrolments", approved)...)
	if got := b.loaded("billing.service", "token"); got != "swordfish" {
		t.Errorf("over a connection, the unit gets %q", got)
	}
}

// TestDelivered: a secret arrives at the unit of its app and at no other, is replaced by a later
// delivery, and the relying party has a receipt of each.
func TestDelivered(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.ticket("one", "token")
	message := b.file("message", b.send("one", "token", "hunter2"))
	receipt := b.do("", "secret", "receive", message)
	b.do("", "secret", "receipt", "--delivery", "one", b.file("receipt", receipt))
	if got := b.loaded("billing.service", "token"); got != "hunter2" {
		t.Errorf("the unit gets %q", got)
	}
	if got := b.loaded("ledger.service", "token"); got != "" {
		t.Errorf("another unit gets %q", got)
	}
	if again := b.do("", "secret", "receive", message); !bytes.Equal(again, receipt) {
		t.Error("the same message gets another receipt")
	}
	b.ticket("two", "token", "--replace")
	b.do("", "secret", "receive", "--out", "receipt2", b.file("message2", b.send("two", "token", "swordfish", "--replace")))
	b.do("", "secret", "receipt", "--delivery", "two", "receipt2")
	if got := b.loaded("billing.service", "token"); got != "swordfish" {
		t.Errorf("the unit gets %q", got)
	}
	// The first message, given again, changes nothing.
	b.do("", "secret", "receive", message)
	if got := b.loaded("billing.service", "token"); got != "swordfish" {
		t.Errorf("after a replay of the first message, the unit gets %q", got)
	}
}

// TestSizes: the largest secret passes through files, socket and store; a larger one, a larger ticket and a
// larger message are refused before anything is made of them.
func TestSizes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.ticket("d", "token")
	largest := strings.Repeat("0123456789abcdef", 4<<10)
	b.refused("a larger secret", "", 1, largest+"0", b.sending("d", "token")...)
	b.refused("no secret", api.CodeInvalidValue, 1, "", b.sending("d", "token")...)
	b.file("huge.ticket", make([]byte, delivery.MaxTicket+1))
	args := b.sending("d", "token")
	args[slices.Index(args, "d.ticket")] = "huge.ticket"
	b.refused("a larger ticket", "", 1, largest, args...)
	b.refused("a larger message", "", 1, "", "secret", "receive", b.file("message", make([]byte, delivery.MaxSealed+1)))
	_, err := b.Admin().Receive(t.Context(), make([]byte, 256<<10))
	if apiCode(err) != api.CodeTooLarge {
		t.Errorf("a larger body: %v", err)
	}
	b.do("", "secret", "receive", "--out", "receipt", b.file("message", b.send("d", "token", largest)))
	b.do("", "secret", "receipt", "--delivery", "d", "receipt")
	if got := b.loaded("billing.service", "token"); got != largest {
		t.Errorf("the unit gets %d bytes", len(got))
	}
}

// TestSenderStops: a message that could not be written is not sent again: it may have gone out. A new
// delivery serves.
func TestSenderStops(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.ticket("d", "token")
	if _, stderr, code := b.run("hunter2", b.sending("d", "token", "--out", "/dev/full")...); code != 1 {
		t.Fatalf("a full device: exit code %d\n%s", code, stderr)
	}
	b.refused("a second message by one delivery", "", 1, "hunter2", b.sending("d", "token")...)
	b.ticket("next", "token")
	b.do("", "secret", "receive", "--out", "receipt", b.file("message", b.send("next", "token", "hunter2")))
	b.do("", "secret", "receipt", "--delivery", "next", "receipt")
}

// TestRefused: case 130. Each attack on a ticket, a message or a receipt is refused by a code of its
// own, and nothing is stored.
func TestRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.policy("ledger")
	key, public := filepath.Join(b.home, "key.pem"), filepath.Join(b.home, "public.pem")
	b.openssl("genpkey", "-algorithm", "ed25519", "-out", key)
	b.openssl("pkey", "-in", key, "-pubout", "-out", public)

	b.ticket("a", "token")
	b.refused("a ticket of another delivery", api.CodeOtherTicket, 1, "hunter2", b.other("a")...)
	b.refused("another secret", api.CodeOtherTicket, 1, "hunter2", b.sending("a", "password")...)
	b.refused("another change", api.CodeOtherTicket, 1, "hunter2", b.sending("a", "token", "--replace")...)
	b.refused("a sender that the ticket does not name", api.CodeOtherTicket, 1, "hunter2", b.sending("a", "token", "--sender-key", key)...)
	b.refused("another app", api.CodeOtherTicket, 1, "hunter2", "secret", "send", "--delivery", "a", "--policy", "ledger.toml", "--ticket", "a.ticket", "--app", "ledger",
		"--trust-test-root-that-vouches-for-no-hardware", b.Root(), "token")
	b.refused("a policy without the app", "", 1, "hunter2", "secret", "send", "--delivery", "a", "--policy", b.Policy(), "--ticket", "a.ticket", "--app", "billing",
		"--trust-test-root-that-vouches-for-no-hardware", b.Root(), "token")
	b.refused("another root of trust", "", 2, "hunter2", "secret", "send", "--delivery", "a", "--policy", "billing.toml", "--ticket", "a.ticket", "--app", "billing", "token")
	b.forged("a.ticket")

	first := b.file("first", b.send("a", "token", "hunter2"))
	b.refused("a second secret by one delivery", "", 1, "hunter2", b.sending("a", "token")...)
	second := b.second("a", "swordfish")

	other := newBed(t)
	other.refused("a message at another machine", api.CodeTicketUnknown, 1, "", "secret", "receive", first)
	if other.stored() != "" {
		t.Errorf("another machine has %s", other.stored())
	}
	b.changed(first)

	b.do("", "secret", "receive", "--out", "receipt", second)
	b.refused("a receipt of another message", api.CodeReceiptForged, 2, "", "secret", "receipt", "--delivery", "a", "receipt")
	b.refused("a second message by one ticket", api.CodeTicketUsed, 1, "", "secret", "receive", first)
	if got := b.loaded("billing.service", "token"); got != "swordfish" { // as documented for --any-sender
		t.Errorf("the unit gets %q", got)
	}

	b.ticket("b", "signed", "--sender", public)
	b.refused("no signature", api.CodeOtherTicket, 1, "hunter2", b.sending("b", "signed")...)
	b.refused("unsigned, by the carrier", api.CodeOtherSender, 7, "", "secret", "receive", b.second("b", "swordfish"))
	message := b.file("signed", b.send("b", "signed", "hunter2", "--sender-key", key))
	b.do("", "secret", "receive", "--out", "receipt-b", message)
	b.do("", "secret", "receipt", "--delivery", "b", "receipt-b")
	b.receipts("receipt-b")
	if got := b.stored(); got != "billing/signed billing/token" {
		t.Errorf("stored: %s", got)
	}
}

// other are the arguments of send with a ticket of another delivery.
func (b *bed) other(ticket string) []string {
	b.t.Helper()
	b.challenge("other")
	args := b.sending("other", "token")
	args[slices.Index(args, "other.ticket")] = ticket + ".ticket"
	return args
}

func (b *bed) openssl(args ...string) {
	b.t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		b.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

// parsed reads the ticket of a delivery.
func (b *bed) parsed(name string) *delivery.Ticket {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.home, name))
	must(b.t, err)
	x, err := delivery.ParseTicket(raw)
	must(b.t, err)
	return x
}

// second is a message that a carrier makes, with a secret of its own, for the ticket of a delivery.
func (b *bed) second(name, secret string) string {
	b.t.Helper()
	s, err := b.parsed(name+".ticket").Seal([]byte(secret), nil)
	must(b.t, err)
	return b.file(name+".second", s.Encode())
}

// changed gives the agent a message with a byte changed in each of its fields, and in the length of each.
func (b *bed) changed(message string) {
	b.t.Helper()
	raw, err := os.ReadFile(message)
	must(b.t, err)
	line := len("agentd/delivery/sealed/1\n")
	for what, at := range map[string]int{
		"line": 3, "length of the id": line + 3, "id": line + 4, "length of the key": line + 36, "key of ML-KEM": line + 40, "key of X25519": line + 40 + 1119,
		"length of the ciphertext": line + 40 + 1120 + 3, "ciphertext": line + 40 + 1120 + 4, "tag": len(raw) - 5, "length of the signature": len(raw) - 1,
	} {
		x := bytes.Clone(raw)
		x[at] ^= 1
		code, exit := api.CodeMalformedMessage, 1
		switch what {
		case "id":
			code = api.CodeTicketUnknown
		case "key of ML-KEM", "key of X25519", "ciphertext", "tag":
			code = api.CodeDeliveryChanged
		}
		b.refused("a changed "+what, code, exit, "", "secret", "receive", b.file("changed", x))
	}
	b.refused("a message that is cut", api.CodeMalformedMessage, 1, "", "secret", "receive", b.file("changed", raw[:len(raw)-1]))
	b.refused("a ticket in the place of a message", api.CodeMalformedMessage, 1, "", "secret", "receive", b.file("changed", raw[line:]))
	if got := b.stored(); got != "" {
		b.t.Errorf("stored: %s", got)
	}
}

// receipts gives the relying party receipts that were changed.
func (b *bed) receipts(name string) {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.home, name))
	must(b.t, err)
	for i := len("agentd/delivery/receipt/1\n") + 4; i < len(raw); i += 7 {
		x := bytes.Clone(raw)
		x[i] ^= 1
		_, stderr, code := b.run("", "secret", "receipt", "--delivery", "b", b.file("changed", x))
		if code != 2 && code != 1 {
			b.t.Errorf("a receipt with byte %d changed: exit code %d\n%s", i, code, stderr)
		}
	}
	b.challenge("nothing")
	b.refused("a receipt, and nothing was sent", "", 1, "", "secret", "receipt", "--delivery", "nothing", name)
}

// forged gives the relying party tickets that a carrier or a program on the machine made.
func (b *bed) forged(name string) {
	b.t.Helper()
	good := b.parsed(name)
	// A program of the machine asks for evidence over a key of its own.
	mine := *good
	mine.Public[7] ^= 1
	id := mine.ID()
	_, err := b.Client().Evidence(b.t.Context(), api.EvidenceRequest{Nonce: mine.Challenge[:], UserData: id[:], Audience: delivery.Audience})
	if apiCode(err) != api.CodeInvalidValue {
		b.t.Errorf("a client asks for the agent's own audience: %v", err)
	}
	mine.Evidence, err = b.Client().Evidence(b.t.Context(), api.EvidenceRequest{Nonce: mine.Challenge[:], UserData: id[:], Audience: "agentd/delivery"})
	must(b.t, err)
	for what, x := range map[string]*delivery.Ticket{
		"evidence of a program": &mine,
		"another key":           {Challenge: good.Challenge, Public: mine.Public, App: good.App, Name: good.Name, Digest: good.Digest, ValidFor: good.ValidFor, Evidence: good.Evidence, Signature: good.Signature},
		"a shorter time":        {Challenge: good.Challenge, Public: good.Public, App: good.App, Name: good.Name, Digest: good.Digest, ValidFor: good.ValidFor - 1, Evidence: good.Evidence, Signature: good.Signature},
		"another signature":     {Challenge: good.Challenge, Public: good.Public, App: good.App, Name: good.Name, Digest: good.Digest, ValidFor: good.ValidFor, Evidence: good.Evidence, Signature: bytes.Repeat([]byte{1}, 64)},
	} {
		b.file("forged.ticket", x.Encode())
		args := b.sending("a", "token")
		args[slices.Index(args, "a.ticket")] = "forged.ticket"
		b.refused("a ticket with "+what, api.CodeTicketForged, 2, "hunter2", args...)
	}
}
