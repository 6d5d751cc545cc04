// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
)

// maxBundle caps the certificates of one PEM text: a full chain is three.
const maxBundle = 16

// DecodeCertificates returns what [ParseCertificates] parses, in DER.
func DecodeCertificates(b []byte) ([][]byte, error) {
	parsed, err := ParseCertificates(b)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(parsed))
	for i, c := range parsed {
		out[i] = c.Raw
	}
	return out, nil
}

// ParseCertificates parses one certificate in DER, or one or more in PEM (RFC 7468). Each must
// parse as X.509. Text before, between and after the blocks of PEM is ignored, as section 2 of
// the RFC says: `openssl x509 -text` writes such text. A byte order mark is, too. Blocks of
// another kind are refused, and so is what looks like a block and does not decode.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxBundle*2*MaxCertificate {
		return nil, refuse(CodeCertificate, "certificate file").found("%d bytes", len(b)).want("at most %d", maxBundle*2*MaxCertificate)
	}
	at := beginOfBlock(b)
	if at < 0 {
		c, err := parseDER("certificate", b)
		if err != nil {
			return nil, notCertificates(b, err)
		}
		return []*x509.Certificate{c}, nil
	}
	var out []*x509.Certificate
	for rest := b[at:]; ; rest = rest[at:] {
		block, next := pem.Decode(rest)
		text := rest[:len(rest)-len(next)]
		where := len(b) - len(rest)
		// pem.Decode passes over a block that does not decode, and takes the next one.
		if block == nil || bytes.Count(text, []byte(beginBlock)) != 1 || len(block.Headers) != 0 {
			return nil, refuse(CodeCertificate, "PEM text at byte %d", where).found("a block that does not decode: %q", short(rest)).want("a certificate without headers")
		}
		if !isCertificate(block.Type) {
			return nil, refuse(CodeCertificate, "PEM text at byte %d", where).found("%s", recogniseLabel(block.Type)).want("-----BEGIN CERTIFICATE-----")
		}
		if len(out) == maxBundle {
			return nil, refuse(CodeCertificate, "PEM text").found("more than %d certificates", maxBundle).want("at most that")
		}
		c, err := parseDER("certificate", block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		rest = next
		if at = beginOfBlock(rest); at < 0 {
			return out, nil
		}
	}
}

const beginBlock = "-----BEGIN "

// beginOfBlock returns where the next block of PEM begins: at the start of a line, after a byte
// order mark or white space that indents it. It is -1 if there is none.
func beginOfBlock(b []byte) int {
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(beginBlock))
		if i < 0 {
			return -1
		}
		at := from + i
		line := b[bytes.LastIndexByte(b[:at], '\n')+1 : at]
		if len(bytes.TrimSpace(bytes.TrimPrefix(line, []byte(bom)))) == 0 {
			return at
		}
		// No block begins in the rest of the line either. To look again at each beginning there would
		// take time in the square of the length.
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			return -1
		}
		from = at + end + 1
	}
}

// notCertificates returns err, or what b is instead if that is known.
func notCertificates(b []byte, err error) error {
	if what := Recognise(b); what != "" && what != "a certificate in DER" {
		return refuse(CodeCertificate, "certificate file").found("%s", what).want("certificates in PEM, or one in DER")
	}
	return err
}

func parseDER(what string, der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, refuse(CodeCertificate, "%s", what).found("%d bytes", len(der)).want("at most %d", MaxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(CodeCertificate, "%s", what).because(err)
	}
	return c, nil
}

// SortCertificates parts certificates in DER, in any order, into endorsement keys
// and issuers. Errs has one error for each that is neither. Those do no harm: a host
// that adds garbage only fails to help.
func SortCertificates(ders [][]byte) (leaves []*EndorsementKey, issuers []*x509.Certificate, errs []error) {
	for _, der := range ders {
		c, err := parseDER("certificate", der)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if c.IsCA {
			issuers = append(issuers, c)
			continue
		}
		leaf, err := endorsementKey(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		leaves = append(leaves, leaf)
	}
	return leaves, issuers, errs
}

// Sizes and caps of a certificate table.
const (
	tableEntrySize  = 24        // GUID 16, offset 4, length 4
	maxTableEntries = 16        // a host needs three or four
	MaxTable        = 256 << 10 // bytes of a whole table
)

// GUID is a globally unique identifier in the byte order of its text (RFC 9562, section 4).
type GUID [16]byte

// GUIDs of a certificate table (GHCB, section "SNP Extended Guest Request").
var (
	GUIDVCEK = GUID{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	GUIDVLEK = GUID{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	GUIDASK  = GUID{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	GUIDARK  = GUID{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
)

func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// mixed returns g with its first three groups little-endian, the other order in use.
func (g GUID) mixed() GUID {
	return GUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

// TableEntry is one blob that the host put in its table.
type TableEntry struct {
	GUID GUID // in text order, whichever order the host used for the known ones
	Data []byte
}

// ParseTable parses the certificate table that a host passes to its guest: entries
//
//	GUID    16 bytes, in text order; some hosts write the first three groups little-endian
//	offset   4 bytes, little-endian, from the start of the table
//	length   4 bytes, little-endian
//
// up to one that is all zero, then the blobs. The host is not trusted with
// anything: offsets into the header or out of the table, overlaps, and too many
// entries are refused as a whole. An empty table, or none, has no entries.
// Data of the entries is part of b.
func ParseTable(b []byte) ([]TableEntry, error) {
	if len(b) > MaxTable {
		return nil, refuse(CodeTable, "certificate table").found("%d bytes", len(b)).want("at most %d", MaxTable)
	}
	if len(b) == 0 {
		return nil, nil
	}
	var spans [][2]uint64
	var entries []TableEntry
	for at := 0; ; at += tableEntrySize {
		if at+tableEntrySize > len(b) {
			return nil, refuse(CodeTable, "certificate table").found("no end within %d bytes", len(b)).want("an entry of zeros after the last")
		}
		header := b[at : at+tableEntrySize]
		if zero(header) {
			break
		}
		if len(entries) == maxTableEntries {
			return nil, refuse(CodeTable, "certificate table").found("more than %d entries", maxTableEntries).want("at most that")
		}
		offset, length := uint64(binary.LittleEndian.Uint32(header[16:])), uint64(binary.LittleEndian.Uint32(header[20:]))
		if length == 0 || offset+length > uint64(len(b)) {
			return nil, refuse(CodeTable, "certificate table, entry %d", len(entries)).found("offset %d, length %d", offset, length).want("bytes within the table of %d", len(b))
		}
		spans = append(spans, [2]uint64{offset, offset + length})
		entries = append(entries, TableEntry{GUID: known(GUID(header[:16])), Data: b[offset : offset+length : offset+length]})
	}
	header := uint64(len(entries)+1) * tableEntrySize
	for i, s := range spans {
		if s[0] < header {
			return nil, refuse(CodeTable, "certificate table, entry %d", i).found("offset %d", s[0]).want("after the header of %d bytes", header)
		}
		for j, t := range spans[:i] {
			if s[0] < t[1] && t[0] < s[1] {
				return nil, refuse(CodeTable, "certificate table, entry %d", i).found("overlap with entry %d", j).want("bytes of its own")
			}
		}
	}
	return entries, nil
}

// TableCertificates returns the certificates of a table in DER: those of the four
// known kinds, each in DER or PEM. Entries of other kinds are ignored; one of a known
// kind that is not a certificate makes the whole table garbage.
func TableCertificates(b []byte) ([][]byte, error) {
	entries, err := ParseTable(b)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i, e := range entries {
		switch e.GUID {
		case GUIDVCEK, GUIDVLEK, GUIDASK, GUIDARK:
			ders, err := DecodeCertificates(e.Data)
			if err != nil {
				return nil, refuse(CodeTable, "certificate table, entry %d (%v)", i, e.GUID).because(err)
			}
			out = append(out, ders...)
		}
	}
	return out, nil
}

func known(g GUID) GUID {
	for _, k := range []GUID{GUIDVCEK, GUIDVLEK, GUIDASK, GUIDARK} {
		if g == k.mixed() {
			return k
		}
	}
	return g
}
