// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
)

const (
	blobType = "agentd/ak/1"
	maxBlob  = 16 << 10 // bytes of an encoded blob
	authSize = 32       // bytes of an authorization value: the most that a SHA-256 key takes
)

// Blob is an attestation key as it is stored outside the TPM. It is a secret: with it
// and the TPM device, a program can quote as the agent. Only Encode returns its content;
// store that with mode 0600. Only its own TPM can open the private key in it.
type Blob struct {
	parent  keys.Name
	public  *keys.Public
	private []byte // contents of the TPM2B_PRIVATE
	auth    []byte // no zero bytes
}

// blobDocument is the stored form. A later version has another type.
type blobDocument struct {
	Type    string         `json:"type"`    // blobType
	Parent  keys.Name      `json:"parent"`  // name of the storage root key
	Public  evidence.Bytes `json:"public"`  // TPMT_PUBLIC
	Private evidence.Bytes `json:"private"` // contents of the TPM2B_PRIVATE
	Auth    evidence.Bytes `json:"auth"`    // 32 bytes, none of them zero
}

// Format hides the blob under every verb.
func (*Blob) Format(f fmt.State, _ rune) { fmt.Fprint(f, "tpmkeys.Blob(hidden)") }

// LogValue hides the blob.
func (*Blob) LogValue() slog.Value { return slog.StringValue("hidden") }

// MarshalJSON refuses: only [Blob.Encode] encodes this secret.
func (*Blob) MarshalJSON() ([]byte, error) {
	return nil, errors.New("tpmkeys.Blob is a secret: only Encode encodes it")
}

// Name returns the name of the key in the blob.
func (b *Blob) Name() keys.Name { return b.public.Name() }

// Encode returns the form to store, one JSON object of at most 16 KiB.
func (b *Blob) Encode() ([]byte, error) {
	return strictjson.Encode(blobDocument{Type: blobType, Parent: b.parent, Public: b.public.Bytes(), Private: b.private, Auth: b.auth})
}

// ErrLater is returned for a stored key that a later version of this program wrote.
var ErrLater = errors.New("a later version of the agent wrote it")

// ParseBlob reads what [Blob.Encode] wrote.
func ParseBlob(data []byte) (*Blob, error) {
	if strictjson.Later(data, maxBlob, blobType) {
		return nil, fmt.Errorf("read stored attestation key: %w", ErrLater)
	}
	var doc blobDocument
	err := strictjson.Decode(data, maxBlob, &doc)
	if err == nil && doc.Type != blobType {
		err = fmt.Errorf("type %q, want %q", doc.Type, blobType)
	}
	var public *keys.Public
	if err == nil {
		public, err = keys.ParsePublic(doc.Public)
	}
	switch {
	case err != nil:
	case len(doc.Parent) == 0:
		err = errors.New("parent is missing")
	case len(doc.Private) == 0 || len(doc.Private) > evidence.MaxQuote:
		err = fmt.Errorf("private part of %d bytes, want 1 to %d", len(doc.Private), evidence.MaxQuote)
	default:
		err = cmp.Or(public.CheckAttestation(), CheckAuth(doc.Auth))
	}
	if err != nil {
		return nil, fmt.Errorf("read stored attestation key: %w", err)
	}
	return &Blob{parent: doc.Parent, public: public, private: doc.Private, auth: doc.Auth}, nil
}

// CheckAuth checks that an authorization value is one that [NewAuth] can draw.
func CheckAuth(auth []byte) error {
	if len(auth) != authSize || bytes.IndexByte(auth, 0) >= 0 {
		return fmt.Errorf("authorization value of %d bytes, want %d, none of them zero", len(auth), authSize)
	}
	return nil
}

// NewAuth draws an authorization value of 32 bytes from random, each byte evenly from 1 to
// 255. TPMs cut trailing zeros off, and HMAC sessions of go-tpm fail on values that
// contain one. Each byte still has almost 8 bits of entropy.
func NewAuth(random io.Reader) ([]byte, error) {
	out := make([]byte, 0, authSize)
	draw := make([]byte, authSize)
	defer clear(draw)
	for len(out) < authSize {
		if _, err := io.ReadFull(random, draw); err != nil {
			return nil, fmt.Errorf("draw an authorization value: %w", err)
		}
		for _, b := range draw {
			if b != 0 && len(out) < authSize {
				out = append(out, b)
			}
		}
	}
	return out, nil
}
