// SPDX-License-Identifier: Apache-2.0

package cmw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Major types of CBOR (RFC 8949, section 3.1): the three high bits of the first byte.
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
)

var majors = map[byte]string{majorUint: "an integer", majorBytes: "a byte string", majorText: "a text string", majorArray: "an array", majorMap: "a map: a collection of several messages", majorTag: "a tag"}

// appendHead appends the head of a data item, in its shortest form.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch high := major << 5; {
	case n < 24:
		return append(b, high|byte(n))
	case n <= math.MaxUint8:
		return append(b, high|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, high|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, high|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, high|27), n)
	}
}

// errCut says that bytes end within a data item.
var errCut = errors.New("it ends within a value")

// head reads the head of a data item, and returns the bytes after it. It refuses indefinite lengths, and
// heads that are longer than they need be (RFC 8949, section 4.2.1): then a record has one spelling.
func head(b []byte) (major byte, n uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, 0, nil, errCut
	}
	major, n = b[0]>>5, uint64(b[0]&31)
	if n < 24 {
		return major, n, b[1:], nil
	}
	if n > 27 {
		return 0, 0, nil, errors.New("a value of indefinite length, or of a form that RFC 8949 reserves")
	}
	size := 1 << (n - 24)
	if len(b) < 1+size {
		return 0, 0, nil, errCut
	}
	var wide [8]byte
	copy(wide[8-size:], b[1:][:size])
	n = binary.BigEndian.Uint64(wide[:])
	if len(appendHead(nil, major, n)) != 1+size {
		return 0, 0, nil, errors.New("a length that is not in its shortest form")
	}
	return major, n, b[1+size:], nil
}

// item reads the head of a data item of one major type.
func item(b []byte, major byte, what string) (n uint64, rest []byte, err error) {
	found, n, rest, err := head(b)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", what, err)
	}
	if found != major {
		name, known := majors[found]
		if !known {
			name = "a value of another kind"
		}
		return 0, nil, fmt.Errorf("%s: found %s, want %s", what, name, majors[major])
	}
	return n, rest, nil
}

// content reads a string of one major type. What it returns is a part of b.
func content(b []byte, major byte, what string) (s, rest []byte, err error) {
	n, rest, err := item(b, major, what)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("%s: %d bytes, and %d are left", what, n, len(rest))
	}
	return rest[:n], rest[n:], nil
}

// unwrapCBOR reads a cbor-record: an array of the media type, the document, and the indicator, which may
// be absent.
func unwrapCBOR(b []byte) ([]byte, error) {
	members, rest, err := item(b, majorArray, "the record")
	if err != nil {
		return nil, err
	}
	if members != 2 && members != 3 {
		return nil, fmt.Errorf("an array of %d members, want 2 or 3", members)
	}
	name, rest, err := content(rest, majorText, "the media type")
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(name) {
		return nil, errors.New("the media type is not valid UTF-8")
	}
	if err := checkType(string(name)); err != nil {
		return nil, err
	}
	document, rest, err := content(rest, majorBytes, "the document")
	if err != nil {
		return nil, err
	}
	if members == 3 {
		n, after, err := item(rest, majorUint, "the indicator")
		if err != nil {
			return nil, err
		}
		if err := checkIndicator(n); err != nil {
			return nil, err
		}
		rest = after
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the record", len(rest))
	}
	return document, nil
}
