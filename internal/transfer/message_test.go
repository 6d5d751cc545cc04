// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

func take(t testing.TB, b string) *secret.Secret {
	t.Helper()
	s, err := secret.Take([]byte(b))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bytesOf(s *secret.Secret) (out string) {
	_ = s.Use(func(b []byte) error { out = string(b); return nil })
	return out
}

// example is a request with its key, and an answer to it.
func example(t testing.TB) (r *transfer.Request, seed *secret.Secret, answer []byte) {
	t.Helper()
	seed, public, err := message.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r = &transfer.Request{Challenge: transfer.Challenge{1}, StoreKey: sealing.StoreKey{2}, Public: public, Evidence: []byte("evidence")}
	s, err := transfer.NewSealer(r, 2)
	if err != nil {
		t.Fatal(err)
	}
	key, err := transfer.ParseReleaseKey([]byte(minisignKey))
	if err != nil {
		t.Fatal(err)
	}
	head := &transfer.Head{Generation: 7, Seed: take(t, string(bytes.Repeat([]byte{9}, 32))), ReleaseKey: key.String(), Number: 3,
		Recipients: []string{"age15nsf9y4k28p83wth93tf7hafhvfajp45d2mge80ems45gz0c5gys3me64l"},
		Past:       transfer.Past{Counter: []byte("counter"), TPMSecret: make([]byte, sealing.TPMNameSize), Blobs: []sealing.ID{{1}, {2}}}}
	entries := []*transfer.Entry{
		{Kind: sealing.KindAppRoot, App: sealing.App{Name: "a", Unit: "a.service", User: "a"}, Digests: []evidence.Digest{{1}, {2}}, Payload: take(t, "root")},
		{Kind: sealing.KindSecret, App: sealing.App{Name: "a", Unit: "a.service", User: "a"}, Name: "token", Unproven: true,
			AssociatedData: sealing.AssociatedDigest{Salt: [16]byte{3}, Digest: evidence.Digest{4}}, Payload: take(t, "secret")},
	}
	size := head.Size()
	err = s.Head(head)
	for _, e := range entries {
		size += e.Size(e.Payload.Len())
		err = errors.Join(err, s.Entry(e))
	}
	a, err2 := s.Answer()
	for _, p := range a.Parts {
		size -= len(p) - 16
	}
	if size != 0 {
		t.Errorf("sizes of head and entries together are wrong by %d", size)
	}
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return r, seed, a.Encode()
}

// contents opens an answer and prints what it contains.
func contents(b []byte, r *transfer.Request, seed *secret.Secret) (out string, err error) {
	a, err := transfer.ParseAnswer(b)
	if err != nil {
		return "", err
	}
	err = a.Open(r, seed, func(h *transfer.Head) error {
		out += fmt.Sprintf("%d %x %v %s %d %+v\n", h.Generation, bytesOf(h.Seed), h.Recipients, h.ReleaseKey, h.Number, h.Past)
		return nil
	}, func(e *transfer.Entry) error {
		out += fmt.Sprintf("%v %v %q %v %v %v %q\n", e.Kind, e.App, e.Name, e.AssociatedData, e.Digests, e.Unproven, bytesOf(e.Payload))
		return nil
	})
	return out, err
}

// TestMessages: what is written is read again, and nothing else: no byte more, none less, and not
// another message.
func TestMessages(t *testing.T) {
	r, seed, answer := example(t)
	offer := transfer.Offer{Challenge: r.Challenge, StoreKey: r.StoreKey}
	if o, err := transfer.ParseOffer(offer.Encode()); err != nil || o != offer {
		t.Errorf("offer: %+v, %v", o, err)
	}
	if q, err := transfer.ParseRequest(r.Encode()); err != nil || q.ID() != r.ID() || string(q.Evidence) != "evidence" {
		t.Errorf("request: %v", err)
	}
	got, err := contents(answer, r, seed)
	if err != nil || !bytes.Contains([]byte(got), []byte(`"token"`)) || !bytes.Contains([]byte(got), []byte(`"secret"`)) {
		t.Errorf("answer: %q, %v", got, err)
	}
	parsers := map[string]func([]byte) error{
		"offer":   func(b []byte) error { _, err := transfer.ParseOffer(b); return err },
		"request": func(b []byte) error { _, err := transfer.ParseRequest(b); return err },
		"answer":  func(b []byte) error { _, err := transfer.ParseAnswer(b); return err },
	}
	messages := map[string][]byte{"offer": offer.Encode(), "request": r.Encode(), "answer": answer}
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
}

// TestAnswerForOneRequest: an answer opens with its key and for its request alone, and its parts
// stay in their places.
func TestAnswerForOneRequest(t *testing.T) {
	r, seed, answer := example(t)
	for name, change := range map[string]func(*transfer.Request){
		"challenge": func(r *transfer.Request) { r.Challenge[0]++ },
		"store key": func(r *transfer.Request) { r.StoreKey[0]++ },
		"HPKE key":  func(r *transfer.Request) { _, r.Public, _ = message.NewKey() },
	} {
		other := *r
		change(&other)
		if got, err := contents(answer, &other, seed); !errors.Is(err, api.CodeOtherRequest) || got != "" {
			t.Errorf("another %s: %q, %v", name, got, err)
		}
		a, err := transfer.ParseAnswer(answer)
		if err != nil {
			t.Fatal(err)
		}
		a.Request = other.ID() // as an attacker would write it
		if got, err := contents(a.Encode(), &other, seed); !errors.Is(err, api.CodeOtherRequest) || got != "" {
			t.Errorf("another %s, and the answer claims it: %q, %v", name, got, err)
		}
	}
	wrong, _, err := message.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := contents(answer, r, wrong); !errors.Is(err, api.CodeOtherRequest) || got != "" {
		t.Errorf("another private half: %q, %v", got, err)
	}
	for name, change := range map[string]func(*transfer.Answer){
		"cut":       func(a *transfer.Answer) { a.Parts = a.Parts[:2] },
		"exchanged": func(a *transfer.Answer) { a.Parts[1], a.Parts[2] = a.Parts[2], a.Parts[1] },
		"doubled":   func(a *transfer.Answer) { a.Parts = append(a.Parts, a.Parts[2]) },
	} {
		a, err := transfer.ParseAnswer(answer)
		if err != nil {
			t.Fatal(err)
		}
		change(a)
		if _, err := contents(a.Encode(), r, seed); !errors.Is(err, api.CodeOtherRequest) {
			t.Errorf("parts %s: %v", name, err)
		}
	}
}

// TestRelease: a statement is read strictly.
func TestRelease(t *testing.T) {
	good := `{"type":"agentd/release/1","number":7,"notAfter":"2030-01-31T12:00:00Z","policy":"version = 1"}`
	if r, err := transfer.ParseRelease([]byte(good)); err != nil || r.Number != 7 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, c := range [][2]string{
		{"release/1", "release/2"}, {"7", "0"}, {"7", "-1"}, {"12:00:00Z", "12:00:00+00:00"}, {"12:00:00Z", "12:00:00.5Z"}, {`"version = 1"`, `""`},
		{`"number"`, `"more":1,"number"`}, {`"number":7`, `"number":7,"number":7`}, {"}", "} " + "{}"}, {`7`, `9007199254740993`},
	} {
		b := bytes.Replace([]byte(good), []byte(c[0]), []byte(c[1]), 1)
		if r, err := transfer.ParseRelease(b); !errors.Is(err, api.CodeMalformedMessage) {
			t.Errorf("%s: %+v, %v", b, r, err)
		}
	}
}

// FuzzMessages: what a parser accepts it writes again, byte for byte.
func FuzzMessages(f *testing.F) {
	r, seed, answer := example(f)
	f.Add(transfer.Offer{Challenge: r.Challenge}.Encode())
	f.Add(r.Encode())
	f.Add(answer)
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := transfer.ParseOffer(b); err == nil && !bytes.Equal(o.Encode(), b) {
			t.Error("an offer has two spellings")
		}
		if q, err := transfer.ParseRequest(b); err == nil && !bytes.Equal(q.Encode(), b) {
			t.Error("a request has two spellings")
		}
		if a, err := transfer.ParseAnswer(b); err == nil {
			if !bytes.Equal(a.Encode(), b) {
				t.Error("an answer has two spellings")
			}
			_, _ = contents(b, r, seed)
		}
		_, _ = transfer.ParseRelease(b)
		_, _ = transfer.ParseReleaseKey(b)
		_, _ = transfer.ParsePast(b)
	})
}
