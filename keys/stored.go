// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
)

// Tags of the TCG PC Client Specific Implementation Specification for Conventional BIOS,
// "TCG_PCCLIENT_STORED_CERT", big-endian. Makers of TPM 1.2 put such a header before the
// certificate, and some of TPM 2.0 still do.
const (
	tagStored  = 0x1001 // then the kind of certificate and its size
	tagFull    = 0x1002 // then X.509 DER
	tagPartial = 0x1003 // then a certificate without its key
)

// StoredCertificate returns the certificate in what a TPM keeps for its endorsement key: X.509
// DER, or that in a header of the TCG. Padding after it is left out. If there is nothing but
// padding, StoredCertificate returns nil. It parses only the outermost length.
func StoredCertificate(b []byte) ([]byte, error) {
	if len(bytes.Trim(b, "\x00")) == 0 || len(bytes.Trim(b, "\xff")) == 0 {
		return nil, nil
	}
	if len(b) >= 5 && binary.BigEndian.Uint16(b) == tagStored {
		size := int(binary.BigEndian.Uint16(b[3:]))
		if b = b[5:]; size > len(b) {
			return nil, fmt.Errorf("a header of the TCG says that a certificate of %d bytes follows, found %d", size, len(b))
		}
		b = b[:size]
		switch {
		case len(b) >= 2 && binary.BigEndian.Uint16(b) == tagFull:
			b = b[2:]
		case len(b) >= 2 && binary.BigEndian.Uint16(b) == tagPartial:
			return nil, errors.New("a header of the TCG says that the certificate is a partial one, without the key: ask the TPM's maker for the full one")
		}
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(b, &outer)
	if err != nil || outer.Tag != asn1.TagSequence || !outer.IsCompound {
		return nil, fmt.Errorf("%d bytes that begin %x are not a certificate: want X.509 DER, or that in a header of the TCG", len(b), b[:min(len(b), 8)])
	}
	return b[:len(b)-len(rest)], nil
}
