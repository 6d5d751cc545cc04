// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/keys"
)

// TestStoredCertificate: what makers put before and after the certificate of an endorsement
// key is read as what it is, at every length.
func TestStoredCertificate(t *testing.T) {
	der := append([]byte{0x30, 0x82, 0x01, 0x00}, bytes.Repeat([]byte{7}, 256)...)
	header := func(kind uint16, size int, body []byte) []byte {
		b := binary.BigEndian.AppendUint16([]byte{0x10, 0x01, 0}, uint16(size))
		return append(binary.BigEndian.AppendUint16(b, kind), body...)
	}
	full := header(0x1002, len(der)+2, der)
	bare := append(binary.BigEndian.AppendUint16([]byte{0x10, 0x01, 0}, uint16(len(der))), der...)
	for name, b := range map[string][]byte{"DER": der, "padded": append(bytes.Clone(der), 0xff, 0xff, 0), "header": full, "header, padded": append(bytes.Clone(full), 0, 0, 0), "header without a second tag": bare} {
		if got, err := keys.StoredCertificate(b); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(der))
		}
		for n := range b[:min(len(b), len(der))] { // cut anywhere: an error, or nothing, and never a shorter certificate
			if got, err := keys.StoredCertificate(b[:n]); got != nil {
				t.Errorf("%s cut to %d bytes: %d bytes, %v", name, n, len(got), err)
			}
		}
	}
	for name, b := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 600), "erased": bytes.Repeat([]byte{0xff}, 600)} {
		if got, err := keys.StoredCertificate(b); got != nil || err != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for want, b := range map[string][]byte{
		"partial":         header(0x1003, 20, bytes.Repeat([]byte{1}, 18)),
		"found 258":       header(0x1002, 300, der)[:5+258],
		"are not a certi": []byte("x509 text"),
	} {
		if got, err := keys.StoredCertificate(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %d bytes, %v", want, len(got), err)
		}
	}
}
