// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/cvm-agentd/agentd/pcr"
)

// A package of RPM begins with a lead of 96 bytes, a header of signatures, which ends at a
// multiple of 8 bytes, and the header of the package. A header is, with integers that are
// big-endian (rpm, docs/manual/format_header.md):
//
//	magic    8e ad e8 01, and 4 bytes of zeros
//	count    u32: of entries
//	size     u32: of the data
//	entries  tag, type, offset into the data and count, u32 each
//	data
const (
	leadSize   = 96
	entrySize  = 16
	maxEntries = 64 << 10
	maxData    = 64 << 20
)

var (
	rpmLead     = []byte{0xed, 0xab, 0xee, 0xdb}
	headerMagic = []byte{0x8e, 0xad, 0xe8, 0x01}
)

// Tags and types of entries.
const (
	tagFileDigests    = 1035 // RPMTAG_FILEDIGESTS: a text for each file, empty for what has no content
	tagFileDigestAlgo = 5011 // RPMTAG_FILEDIGESTALGO: absent means MD5
	typeInteger       = 4    // RPM_INT32_TYPE
	typeTexts         = 8    // RPM_STRING_ARRAY_TYPE: texts, each with a zero byte
)

// algorithms are the algorithms of digests by the numbers of OpenPGP (RFC 9580, section 9.5).
var algorithms = map[uint32]pcr.Algorithm{2: pcr.SHA1, 8: pcr.SHA256, 9: pcr.SHA384, 10: pcr.SHA512}

// rpm adds the files of a package, whose header has their digests.
func (d *Digests) rpm(r io.Reader) error {
	if _, err := io.CopyN(io.Discard, r, leadSize); err != nil {
		return fmt.Errorf("read the lead: %w", err)
	}
	signatures, err := readHeader(r)
	if err != nil {
		return fmt.Errorf("header of signatures: %w", err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(-len(signatures.data)&7)); err != nil {
		return fmt.Errorf("header of signatures: %w", err)
	}
	h, err := readHeader(r)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	return d.addHeader(h)
}

// addHeader adds the digests of a header.
func (d *Digests) addHeader(h *header) error {
	at, n, ok := h.entry(tagFileDigests, typeTexts)
	if !ok {
		return nil // it has no files
	}
	algorithm := "MD5"
	if i, _, ok := h.entry(tagFileDigestAlgo, typeInteger); ok && i+4 <= len(h.data) {
		number := binary.BigEndian.Uint32(h.data[i:])
		if algorithms[number] == d.Algorithm {
			return d.addTexts(h.data[at:], n)
		}
		algorithm = fmt.Sprintf("the algorithm %d of OpenPGP", number)
	}
	return fmt.Errorf("its digests are of %s, want %s: unpack it and give the folder", algorithm, d.Algorithm)
}

// addTexts adds n digests in hexadecimal.
func (d *Digests) addTexts(b []byte, n uint32) error {
	for i := range n {
		one, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return fmt.Errorf("digest %d of %d is missing", i, n)
		}
		if b = rest; len(one) == 0 { // a folder, a link, or what the package does not bring
			continue
		}
		if len(d.Values) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		v, err := hex.DecodeString(string(one))
		if err != nil || len(v) != d.Algorithm.Size() {
			return fmt.Errorf("digest %d has %d characters, want %d of hexadecimal", i, len(one), 2*d.Algorithm.Size())
		}
		d.Values = append(d.Values, v)
	}
	return nil
}

// header is a header of a package.
type header struct {
	entries []byte
	data    []byte
}

// readHeader reads a header of at most 64 MiB.
func readHeader(r io.Reader) (*header, error) {
	var fixed [16]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(fixed[:], headerMagic) {
		return nil, errors.New("it does not begin as a header does")
	}
	count, size := binary.BigEndian.Uint32(fixed[8:]), binary.BigEndian.Uint32(fixed[12:])
	if count > maxEntries || size > maxData {
		return nil, fmt.Errorf("%d entries and %d bytes, want at most %d and %d", count, size, maxEntries, maxData)
	}
	h := new(header)
	var err error
	if h.entries, err = readExactly(r, int(count)*entrySize); err == nil {
		h.data, err = readExactly(r, int(size))
	}
	return h, err
}

// readExactly reads n bytes, and keeps no more in memory than there are.
func readExactly(r io.Reader, n int) ([]byte, error) {
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// entry returns offset and count of the first entry of a tag and a type, if its data is there.
func (h *header) entry(tag, kind uint32) (at int, count uint32, ok bool) {
	for e := h.entries; len(e) >= entrySize; e = e[entrySize:] {
		if binary.BigEndian.Uint32(e) != tag || binary.BigEndian.Uint32(e[4:]) != kind {
			continue
		}
		offset := binary.BigEndian.Uint32(e[8:])
		return int(offset), binary.BigEndian.Uint32(e[12:]), uint64(offset) <= uint64(len(h.data))
	}
	return 0, 0, false
}
