// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// The payload of an app root: number of versions (2 bytes), then for each, ascending,
// its number (4 bytes) and root (32 random bytes). Integers are big-endian.
const versionSize = 4 + sealing.KeySize

// newAppRoot returns a payload with version 1 only.
func newAppRoot() (*secret.Secret, error) { return addVersion(nil, 1) }

// addVersion returns old with a new random version after it.
func addVersion(old *secret.Secret, version uint32) (*secret.Secret, error) {
	root, err := secret.Random(sealing.KeySize)
	if err != nil {
		return nil, err
	}
	defer root.Wipe()
	n := 2
	if old != nil {
		n = old.Len()
	}
	out, err := secret.New(n + versionSize)
	if err != nil {
		return nil, err
	}
	err = out.Use(func(o []byte) error {
		if old != nil {
			if err := old.Use(func(b []byte) error { copy(o, b); return nil }); err != nil {
				return err
			}
		}
		binary.BigEndian.PutUint16(o, binary.BigEndian.Uint16(o)+1)
		binary.BigEndian.PutUint32(o[n:], version)
		return root.Use(func(r []byte) error { copy(o[n+4:], r); return nil })
	})
	return out, err
}

// dropVersion returns old without a version that it contains.
func dropVersion(old *secret.Secret, version uint32) (*secret.Secret, error) {
	out, err := secret.New(old.Len() - versionSize)
	if err != nil {
		return nil, err
	}
	err = old.Use(func(b []byte) error {
		return out.Use(func(o []byte) error {
			binary.BigEndian.PutUint16(o, binary.BigEndian.Uint16(b)-1)
			n := 2
			for rest := b[2:]; len(rest) > 0; rest = rest[versionSize:] {
				if binary.BigEndian.Uint32(rest) != version {
					n += copy(o[n:], rest[:versionSize])
				}
			}
			return nil
		})
	})
	return out, err
}

// versions lists the versions in a payload, ascending, and refuses a payload that
// addVersion and dropVersion never make.
func versions(payload *secret.Secret) (list []uint32, err error) {
	malformed := &sealing.Error{Code: api.CodeMalformedBlob, Field: "payload", Detail: "it is not the root of an app"}
	err = payload.Use(func(b []byte) error {
		if len(b) < 2 || len(b) != 2+int(binary.BigEndian.Uint16(b))*versionSize || len(b) == 2 {
			return malformed
		}
		for rest := b[2:]; len(rest) > 0; rest = rest[versionSize:] {
			v := binary.BigEndian.Uint32(rest)
			if v == 0 || len(list) > 0 && v <= list[len(list)-1] || len(list) == sealing.MaxVersions {
				return malformed
			}
			list = append(list, v)
		}
		return nil
	})
	return list, err
}

// deriveFrom derives length bytes for label from a version of an app's root:
// HKDF-Expand-SHA-256(root, Preimage(label, version, app, unit, user, label, length),
// length). Every part is prefixed with its length and the root is the app's own, so
// that no two of version, app, label and length give related secrets.
func deriveFrom(payload *secret.Secret, app sealing.App, version uint32, label []byte, length int) (*secret.Secret, error) {
	info := evidence.Preimage(sealing.LabelDerive,
		binary.BigEndian.AppendUint32(nil, version),
		[]byte(app.Name), []byte(app.Unit), []byte(app.User),
		label,
		binary.BigEndian.AppendUint32(nil, uint32(length)))
	var out *secret.Secret
	err := payload.Use(func(b []byte) error {
		for rest := b[2:]; len(rest) > 0; rest = rest[versionSize:] {
			if binary.BigEndian.Uint32(rest) != version {
				continue
			}
			okm, err := hkdf.Expand(sha256.New, rest[4:versionSize], string(info), length)
			if err != nil {
				return err
			}
			out, err = secret.Take(okm)
			return err
		}
		return &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("app %s has no version %d of its root", app.Name, version)}
	})
	return out, err
}
