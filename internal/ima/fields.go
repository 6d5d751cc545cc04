// SPDX-License-Identifier: Apache-2.0

package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// Fields is what an entry says that was measured.
type Fields struct {
	Digest    Digest
	Path      string // of the file, or the name of what was measured otherwise; any bytes but zero
	Signature []byte // content of the extended attribute security.ima; empty if there was none
	Buffer    []byte // what Digest is of, if it is not a file: a key, a command line, data of the kernel
	IsBuffer  bool   // the template has a buffer
}

// A Digest is the digest of a file.
type Digest struct {
	Verity    bool   // of fs-verity, not of the content
	Algorithm string // as the kernel names it, such as "sha256"
	Value     []byte
}

// String returns the digest as a policy names it, such as "sha256:00ff" or "verity:sha256:00ff".
func (d Digest) String() string {
	s := d.Algorithm + ":" + hex.EncodeToString(d.Value)
	if d.Verity {
		return "verity:" + s
	}
	return s
}

// templates are the fields of the templates that Linux defines.
var templates = map[string][]string{
	"ima-ng":     {"d-ng", "n-ng"},
	"ima-sig":    {"d-ng", "n-ng", "sig"},
	"ima-ngv2":   {"d-ngv2", "n-ng"},
	"ima-sigv2":  {"d-ngv2", "n-ng", "sig"},
	"ima-buf":    {"d-ng", "n-ng", "buf"},
	"ima-modsig": {"d-ng", "n-ng", "sig", "d-modsig", "modsig"},
	"evm-sig":    {"d-ng", "n-ng", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode"},
}

// fieldsOf returns the fields of a template, nil if it is not known. An administrator can
// make one of his own, which the kernel names by its fields. It must begin as those above do, with
// digest and name. The order of fields is hashed nowhere: otherwise an attacker could have a field
// that root fills, such as a command line for kexec, read as the digest of a listed file.
func fieldsOf(template string) []string {
	if f, ok := templates[template]; ok {
		return f
	}
	f := strings.Split(template, "|")
	if len(f) < 2 || !slices.Contains([]string{"d", "d-ng", "d-ngv2"}, f[0]) || !slices.Contains([]string{"n", "n-ng"}, f[1]) {
		return nil
	}
	return f
}

// digestSizes are the sizes of digests by the kernel's names of algorithms.
var digestSizes = map[string]int{
	"md5": 16, "sha1": 20, "rmd160": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64, "sm3": 32, "sm3-256": 32,
	"sha3-256": 32, "sha3-384": 48, "sha3-512": 64, "streebog256": 32, "streebog512": 64,
}

// Fields returns what the entry says. The error says why its data does not have the form of its
// template; a template that is not known is one. Of a buffer, the digest must be that of the
// buffer, so that the signature of a file cannot pass for one.
func (e *Entry) Fields() (*Fields, error) {
	if e.Template == oldTemplate {
		path := bytes.TrimRight(e.Data[hashSize:], "\x00")
		return &Fields{Digest: Digest{Algorithm: "sha1", Value: e.Data[:hashSize]}, Path: string(path)}, nil
	}
	names := fieldsOf(e.Template)
	if names == nil {
		return nil, fmt.Errorf("the template %s is not known: want a digest, a name, and the other fields after them", text.Excerpt(e.Template))
	}
	f := new(Fields)
	rest := e.Data
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("the template has the field %s twice", text.Excerpt(name))
		}
		if len(rest) < 4 {
			return nil, fmt.Errorf("field %s is missing", text.Excerpt(name))
		}
		n := binary.LittleEndian.Uint32(rest)
		if uint64(n) > uint64(len(rest)-4) {
			return nil, fmt.Errorf("field %s has %d bytes, and %d follow", text.Excerpt(name), n, len(rest)-4)
		}
		if err := f.set(name, rest[4:4+n], e.Violation()); err != nil {
			return nil, fmt.Errorf("field %s: %w", text.Excerpt(name), err)
		}
		rest = rest[4+n:]
	}
	switch {
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes follow the last field", len(rest))
	case f.IsBuffer && !e.Violation():
		return f, f.checkBuffer()
	}
	return f, nil
}

// set reads one field.
func (f *Fields) set(name string, b []byte, violation bool) (err error) {
	switch name {
	case "d-ng":
		f.Digest, err = parseDigest(b, violation)
	case "d-ngv2": // "ima:" or "verity:" before what d-ng has
		kind, rest, ok := bytes.Cut(b, []byte(":"))
		if verity := string(kind) == "verity"; !ok || !verity && string(kind) != "ima" {
			return errors.New("the digest is neither of ima nor of verity")
		} else if f.Digest, err = parseDigest(rest, violation); verity {
			f.Digest.Verity = true
		}
	case "d":
		if len(b) != hashSize {
			return fmt.Errorf("the digest has %d bytes, want %d", len(b), hashSize)
		}
		f.Digest = Digest{Algorithm: "sha1", Value: b}
	case "n-ng", "n":
		path, ok := bytes.CutSuffix(b, []byte{0})
		switch {
		case !ok || len(path) == 0 || len(path) > MaxPath:
			return fmt.Errorf("the name has %d bytes, want 1 to %d and a zero byte", len(b), MaxPath)
		case bytes.IndexByte(path, 0) >= 0:
			return errors.New("the name contains a zero byte")
		}
		f.Path = string(path)
	case "sig":
		f.Signature = b
	case "buf":
		f.Buffer, f.IsBuffer = b, true
	case "d-modsig", "modsig", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode":
	default:
		return errors.New("it is not known")
	}
	return err
}

// parseDigest reads the name of an algorithm, a colon, a zero byte and the digest. A violation
// has zeros of any size in its place.
func parseDigest(b []byte, violation bool) (Digest, error) {
	name, value, ok := bytes.Cut(b, []byte(":\x00"))
	if !ok || len(name) == 0 || len(name) > 20 || bytes.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r) }) {
		return Digest{}, errors.New("want the name of an algorithm, a colon and a zero byte before the digest")
	}
	d := Digest{Algorithm: string(name), Value: value}
	if size, ok := digestSizes[d.Algorithm]; !violation && ok && len(value) != size {
		return Digest{}, fmt.Errorf("the digest has %d bytes, want %d", len(value), size)
	}
	if len(value) > 64 {
		return Digest{}, fmt.Errorf("the digest has %d bytes, want at most 64", len(value))
	}
	return d, nil
}

// checkBuffer checks that the digest is that of the buffer.
func (f *Fields) checkBuffer() error {
	alg, err := pcr.ParseAlgorithm(f.Digest.Algorithm)
	if err != nil {
		return fmt.Errorf("the digest of the buffer is of %s, which cannot be computed", text.Excerpt(f.Digest.Algorithm))
	}
	if !bytes.Equal(alg.Sum(f.Buffer), f.Digest.Value) {
		return errors.New("the digest is not that of the buffer")
	}
	return nil
}
