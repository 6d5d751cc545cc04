// SPDX-License-Identifier: Apache-2.0

// Package sshagent serves signing keys of an app to ssh and sshd, by the protocol of ssh-agent
// (draft-ietf-sshm-ssh-agent). It lists keys and signs with them. It refuses all else: no key can be
// added, removed or locked, and no extension is known.
//
// A message is its length (4 bytes, big-endian), its type (1 byte) and its contents:
//
//	11  request for identities
//	12  answer: number of keys (4), then for each: key (string), comment (string)
//	13  request for a signature: key (string), data (string), flags (4)
//	14  answer: signature (string), which is its algorithm (string) and bytes (string)
//	 5  refusal
package sshagent

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// Types of messages.
const (
	refusal     = 5
	listRequest = 11
	listAnswer  = 12
	signRequest = 13
	signAnswer  = 14
)

// Limits.
const (
	MaxKeys = 64 // keys of one agent

	maxMessage     = sealing.MaxMessage + 4<<10 // bytes of a request: data to sign, and a key
	maxKnown       = 1024                       // keys that are remembered from lists
	maxConnections = 256                        // at once; sshd keeps one open for each session
)

// Keys are the signing keys of an app, as package client asks for them.
type Keys interface {
	Sign(ctx context.Context, r api.SignRequest) (*api.Signed, error)
	PublicKey(ctx context.Context, k api.SigningKey) (*api.PublicKey, error)
}

// An Agent answers for some keys of one app.
type Agent struct {
	keys  Keys
	names []api.SigningKey
	log   func(string) // what a person should know, one line

	mu    sync.Mutex
	known map[string]key // by the key as ssh encodes it; guarded by mu
}

// key is a public key that was listed.
type key struct {
	name   api.SigningKey // with the version that it has
	public ssh.PublicKey
	der    []byte
}

// New returns an agent for the keys of these names, 1 to [MaxKeys]. log gets one line for each
// failure.
func New(keys Keys, names []api.SigningKey, log func(string)) (*Agent, error) {
	if len(names) < 1 || len(names) > MaxKeys {
		return nil, fmt.Errorf("%d keys, want 1 to %d", len(names), MaxKeys)
	}
	return &Agent{keys: keys, names: names, log: log, known: map[string]key{}}, nil
}

// Look asks for all keys, so that a mistake shows before ssh does.
func (a *Agent) Look(ctx context.Context) error {
	for _, name := range a.names {
		if _, err := a.resolve(ctx, name); err != nil {
			return fmt.Errorf("public half of key %q: %w", name.Label, err)
		}
	}
	return nil
}

// resolve asks for the public half of a key, and remembers it.
func (a *Agent) resolve(ctx context.Context, name api.SigningKey) (key, error) {
	answer, err := a.keys.PublicKey(ctx, name)
	if err != nil {
		return key{}, err
	}
	name.Version = answer.Version
	parsed, err := x509.ParsePKIXPublicKey(answer.PublicKey)
	if err != nil {
		return key{}, fmt.Errorf("parse the public key: %w", err)
	}
	public, err := ssh.NewPublicKey(parsed)
	if err != nil {
		return key{}, fmt.Errorf("encode the public key for ssh: %w", err)
	}
	k := key{name: name, public: public, der: answer.PublicKey}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[string(public.Marshal())] = k
	return k, nil
}

// answer answers one message.
func (a *Agent) answer(ctx context.Context, message []byte) []byte {
	var out []byte
	var err error
	switch message[0] {
	case listRequest:
		out, err = a.list(ctx, message)
	case signRequest:
		out, err = a.sign(ctx, message)
	default: // ssh asks for extensions, and does without
		return []byte{refusal}
	}
	if err != nil {
		a.log(err.Error())
		return []byte{refusal}
	}
	return out
}

// identity is a key in a list.
type identity struct {
	Key     []byte
	Comment string
}

// list answers with the keys that there are now. One that the agent does not give, such as one of
// a version that root retired, is left out.
func (a *Agent) list(ctx context.Context, message []byte) ([]byte, error) {
	if len(message) != 1 {
		return nil, errors.New("list keys: the request has contents, want none")
	}
	var found []byte
	n := uint32(0)
	for _, name := range a.names {
		k, err := a.resolve(ctx, name)
		if err != nil {
			a.log(fmt.Sprintf("list key %q: %v", name.Label, err))
			continue
		}
		found = append(found, ssh.Marshal(identity{k.public.Marshal(), name.Label})...)
		n++
	}
	if n == 0 {
		return nil, errors.New("list keys: none is available")
	}
	return append(ssh.Marshal(struct {
		Type byte
		Keys uint32
	}{listAnswer, n}), found...), nil
}

// sign answers with a signature over the data of a request.
func (a *Agent) sign(ctx context.Context, message []byte) ([]byte, error) {
	var r struct {
		Key, Data []byte
		Flags     uint32
	}
	if err := ssh.Unmarshal(message[1:], &r); err != nil {
		return nil, errors.New("sign: the request is malformed")
	}
	k, ok := a.find(ctx, r.Key)
	switch {
	case !ok:
		return nil, errors.New("sign: a key was asked for that this agent does not have")
	case r.Flags != 0: // SHA-256 or SHA-512 for RSA
		return nil, fmt.Errorf("sign with key %q: flags %#x were given, want none: they are for RSA keys", k.name.Label, r.Flags)
	}
	signed, err := a.keys.Sign(ctx, api.SignRequest{Label: k.name.Label, Algorithm: k.name.Algorithm, Version: k.name.Version, Message: r.Data})
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", k.name.Label, err)
	}
	if !bytes.Equal(signed.PublicKey, k.der) {
		return nil, fmt.Errorf("sign with key %q: the agent signed with another key", k.name.Label)
	}
	signature, err := sshSignature(k.name.Algorithm, signed.Signature)
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", k.name.Label, err)
	}
	return ssh.Marshal(struct {
		Type      byte
		Signature []byte
	}{signAnswer, ssh.Marshal(ssh.Signature{Format: k.public.Type(), Blob: signature})}), nil
}

// find returns the key that ssh encodes so. It asks for the list if the key is not known, since a
// program may have kept the public half from before.
func (a *Agent) find(ctx context.Context, encoded []byte) (key, bool) {
	for again := false; ; again = true {
		a.mu.Lock()
		k, ok := a.known[string(encoded)]
		a.mu.Unlock()
		if ok || again {
			return k, ok
		}
		for _, name := range a.names {
			if _, err := a.resolve(ctx, name); err != nil {
				a.log(fmt.Sprintf("look for key %q: %v", name.Label, err))
			}
		}
	}
}

// sshSignature returns a signature of the API as ssh encodes it: RFC 8709 for Ed25519, RFC 5656
// (section 3.1.2) for ECDSA.
func sshSignature(a api.SigningAlgorithm, signature []byte) ([]byte, error) {
	if a == api.SignEd25519 {
		return signature, nil
	}
	var x struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &x); err != nil || len(rest) > 0 {
		return nil, errors.New("the agent gave a signature that is not DER")
	}
	return ssh.Marshal(x), nil
}
