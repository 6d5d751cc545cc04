// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/cvm-agentd/agentd/evidence"
)

const (
	blobType = "agentd/ak/1"
	maxBlob  = 16 << 10 // bytes of an encoded blob
	authSize = 32       // bytes of the AK's authorization value: the most that a SHA-256 key takes
)

// Blob is an attestation key as it is kept outside the TPM. It is a secret: with it
// and the TPM device, a program can quote as the agent. Only Encode gives it away;
// store that with mode 0600. The private key in it opens in its own TPM alone.
type Blob struct {
	parent  Name
	public  *Public
	private []byte // contents of the TPM2B_PRIVATE
	auth    []byte // no zero bytes
}

// blobDocument is the stored form. A later version has another type.
type blobDocument struct {
	Type    string         `json:"type"`    // blobType
	Parent  Name           `json:"parent"`  // name of the storage root key
	Public  evidence.Bytes `json:"public"`  // TPMT_PUBLIC
	Private evidence.Bytes `json:"private"` // contents of the TPM2B_PRIVATE
	Auth    evidence.Bytes `json:"auth"`    // 32 bytes, none of them zero
}

// String hides the blob.
func (*Blob) String() string { return "keys.Blob(hidden)" }

// GoString hides the blob.
func (*Blob) GoString() string { return "keys.Blob(hidden)" }

// LogValue hides the blob.
func (*Blob) LogValue() slog.Value { return slog.StringValue("hidden") }

// MarshalJSON refuses: a secret is encoded on purpose, with [Blob.Encode], or not.
func (*Blob) MarshalJSON() ([]byte, error) {
	return nil, errors.New("keys.Blob is a secret and not encoded as a part of other things")
}

// Name is the name of the key in the blob.
func (b *Blob) Name() Name { return b.public.Name() }

// Encode is the form to store, one JSON object.
func (b *Blob) Encode() ([]byte, error) {
	return evidence.EncodeJSON(blobDocument{Type: blobType, Parent: b.parent, Public: b.public.bytes, Private: b.private, Auth: b.auth})
}

// ParseBlob reads what [Blob.Encode] wrote.
func ParseBlob(data []byte) (*Blob, error) {
	var doc blobDocument
	if err := evidence.DecodeJSON(data, maxBlob, &doc); err != nil {
		return nil, fmt.Errorf("read stored attestation key: %w", err)
	}
	if doc.Type != blobType {
		return nil, fmt.Errorf("read stored attestation key: type %q, want %q", doc.Type, blobType)
	}
	public, err := ParsePublic(doc.Public)
	if err != nil {
		return nil, fmt.Errorf("read stored attestation key: %w", err)
	}
	if err := public.CheckAttestation(); err != nil {
		return nil, fmt.Errorf("read stored attestation key: %w", err)
	}
	switch {
	case len(doc.Parent) == 0:
		return nil, errors.New("read stored attestation key: parent is missing")
	case len(doc.Private) == 0 || len(doc.Private) > evidence.MaxQuote:
		return nil, fmt.Errorf("read stored attestation key: private part of %d bytes, want 1 to %d", len(doc.Private), evidence.MaxQuote)
	case len(doc.Auth) != authSize || bytes.IndexByte(doc.Auth, 0) >= 0:
		return nil, fmt.Errorf("read stored attestation key: authorization must be %d bytes, none of them zero", authSize)
	}
	return &Blob{parent: doc.Parent, public: public, private: doc.Private, auth: doc.Auth}, nil
}

// newAuth draws an authorization value without zero bytes, each byte evenly from 1
// to 255. TPMs cut trailing zeros off, and HMAC sessions of go-tpm fail on values
// that hold one.
func newAuth(random io.Reader) ([]byte, error) {
	out := make([]byte, 0, authSize)
	draw := make([]byte, authSize)
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
