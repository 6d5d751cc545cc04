// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// aead returns AES-256-GCM with a random nonce of 96 bits before the ciphertext and a
// tag of 128 bits after it. Every key of this package encrypts once.
func aead(key []byte) (cipher.AEAD, error) {
	if len(key) != sealing.KeySize {
		return nil, fmt.Errorf("AES key of %d bytes, want %d", len(key), sealing.KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// encrypt seals plain under key.
func encrypt(key, plain *secret.Secret, data []byte) (out []byte, err error) {
	err = key.Use(func(k []byte) error {
		a, err := aead(k)
		if err != nil {
			return err
		}
		return plain.Use(func(p []byte) error {
			out = a.Seal(nil, nil, p, data)
			return nil
		})
	})
	return out, err
}

// errAuthentication means that the tag does not match key, ciphertext and associated data.
var errAuthentication = errors.New("authentication failed")

// decrypt opens what encrypt made, straight into memory for secrets.
func decrypt(key *secret.Secret, sealed, data []byte) (*secret.Secret, error) {
	if len(sealed) < sealing.Overhead {
		return nil, errAuthentication
	}
	plain, err := secret.New(len(sealed) - sealing.Overhead)
	if err != nil {
		return nil, err
	}
	err = key.Use(func(k []byte) error {
		a, err := aead(k)
		if err != nil {
			return err
		}
		return plain.Use(func(p []byte) error {
			if _, err := a.Open(p[:0], nil, sealed, data); err != nil {
				return errAuthentication
			}
			return nil
		})
	})
	if err != nil {
		plain.Wipe()
		return nil, err
	}
	return plain, nil
}

// slotKey derives key and check of a slot from its root:
// HKDF-Expand-SHA-256(root, Preimage(label, kind, salt), 48), key first.
func slotKey(root *secret.Secret, s sealing.Slot) (key *secret.Secret, check [sealing.CheckSize]byte, err error) {
	info := evidence.Preimage(sealing.LabelSlot, []byte(s.Kind.String()), s.Salt[:])
	err = root.Use(func(b []byte) error {
		out, err := hkdf.Expand(sha256.New, b, string(info), sealing.KeySize+sealing.CheckSize)
		if err != nil {
			return err
		}
		copy(check[:], out[sealing.KeySize:])
		key, err = secret.Take(out[:sealing.KeySize])
		return err
	})
	return key, check, err
}

// newSlot draws a slot for root, and returns it with its key.
func newSlot(kind sealing.SlotKind, root *secret.Secret) (sealing.Slot, *secret.Secret, error) {
	s := sealing.Slot{Kind: kind}
	rand.Read(s.Salt[:]) // never fails
	key, check, err := slotKey(root, s)
	s.Check = check
	return s, key, err
}

// errOtherKey means that the slot was made for another root.
var errOtherKey = errors.New("the key check does not match")

// unwrap opens the wrapped key of a slot of the machine.
func unwrap(root *secret.Secret, s sealing.Slot, wrapped []byte, header evidence.Digest) (*secret.Secret, error) {
	key, check, err := slotKey(root, s)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	if subtle.ConstantTimeCompare(check[:], s.Check[:]) != 1 {
		return nil, errOtherKey
	}
	return decrypt(key, wrapped, header[:])
}

// wrapRecovery encrypts header digest and data key, 64 bytes, to a recipient (age
// v1 file). age authenticates no associated data; with the digest inside, a wrapped
// key that is moved to another blob is noticed all the same.
func wrapRecovery(recipient string, key *secret.Secret, header evidence.Digest) ([]byte, error) {
	r, err := sealing.ParseRecipient(recipient)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, fmt.Errorf("encrypt to recipient %s: %w", recipient, err)
	}
	err = key.Use(func(k []byte) error {
		if _, err := w.Write(header[:]); err != nil {
			return err
		}
		_, err := w.Write(k)
		return err
	})
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("encrypt to recipient %s: %w", recipient, err)
	}
	return out.Bytes(), nil
}

// unwrapRecovery decrypts what wrapRecovery returned. The error is errOtherKey if no identity matches.
func unwrapRecovery(id *Identities, wrapped []byte, header evidence.Digest) (*secret.Secret, error) {
	r, err := age.Decrypt(bytes.NewReader(wrapped), id.list()...)
	if _, none := errors.AsType[*age.NoIdentityMatchError](err); none {
		return nil, errOtherKey
	} else if err != nil {
		return nil, errAuthentication
	}
	plain := make([]byte, len(header)+sealing.KeySize+1)
	defer clear(plain)
	n, err := io.ReadFull(r, plain)
	if !errors.Is(err, io.ErrUnexpectedEOF) || n != len(plain)-1 {
		return nil, errAuthentication
	}
	if subtle.ConstantTimeCompare(plain[:len(header)], header[:]) != 1 {
		return nil, errAuthentication
	}
	return secret.Take(plain[len(header):n])
}

// Identities are the private halves of recovery recipients: all of them secrets.
type Identities struct {
	_   [0]func()
	ids *[]age.Identity // a pointer, so that printing shows an address at most
}

// ParseIdentities parses an identity file as age-keygen writes it: one AGE-SECRET-KEY-1…
// on each line. It skips empty lines and those that begin with #. The caller clears b.
func ParseIdentities(b []byte) (*Identities, error) {
	if len(b) > sealing.MaxIdentityFile {
		return nil, &sealing.Error{Code: api.CodeInvalidValue, Detail: fmt.Sprintf("identity file of %d bytes, at most %d", len(b), sealing.MaxIdentityFile)}
	}
	var ids []age.Identity
	for i, line := range bytes.Split(b, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, err := age.ParseX25519Identity(string(line))
		if err != nil {
			// The library's error may quote the line.
			return nil, &sealing.Error{Code: api.CodeInvalidValue, Detail: fmt.Sprintf("line %d of the identity file is not an age X25519 identity", i+1)}
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, &sealing.Error{Code: api.CodeInvalidValue, Detail: "the identity file contains no identity"}
	}
	return &Identities{ids: &ids}, nil
}

func (i *Identities) list() []age.Identity { return *i.ids }

// has reports whether one of the identities is that of recipient.
func (i *Identities) has(recipient string) bool {
	return i != nil && slices.ContainsFunc(i.list(), func(id age.Identity) bool {
		x, ok := id.(*age.X25519Identity)
		return ok && x.Recipient().String() == recipient
	})
}

// Format prints a placeholder under every verb.
func (i Identities) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[identities]") }

// LogValue returns a placeholder.
func (i Identities) LogValue() slog.Value { return slog.StringValue("[identities]") }

// MarshalText refuses.
func (i Identities) MarshalText() ([]byte, error) { return nil, secret.ErrNoEncoding }
