// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Sizes of the firmware's answer with a report: MSG_REPORT_RSP as Linux gives it (struct
// snp_report_resp), the report after 32 bytes.
const (
	ResponseSize   = 4000
	ResponseHeader = 32
)

// magics are the beginnings of what people have in hand, with a name for each.
var magics = []struct {
	begin, name string
}{
	{"\xff\xfe", "text in UTF-16, as PowerShell writes it: save it as UTF-8"},
	{"\xfe\xff", "text in UTF-16: save it as UTF-8"},
	{"HCLA", "an HCL blob, which the paravisor of an Azure machine wraps a report in (agentctl: --azure-hcl)"},
	{"\xffTCG\x80\x18", "a quote of a TPM (TPMS_ATTEST)"},
	{"\x1f\x8b", "a file that is compressed with gzip: unpack it"},
	{"PK\x03\x04", "a ZIP archive: unpack it"},
	{"<", "a web page or XML, as a login page or a proxy answers"},
}

// maxRecognised is how many bytes of text are decoded to see what is in it.
const maxRecognised = 1 << 20

// Recognise returns in words what b is, if it is something that people have in hand in the place
// of a report or of certificates, and "" if it is none of these. It is for messages: nothing is
// verified, and what looks like one thing can be another.
func Recognise(b []byte) string {
	switch {
	case len(b) == 0:
		return "an empty file"
	case len(b) == ReportSize && plausibleReport(b):
		return "an attestation report"
	case len(b) > ReportSize && plausibleReport(b):
		if _, err := ParseTable(b[ReportSize:]); err == nil {
			return "an attestation report with the host's certificate table after it"
		}
	case len(b) == ResponseSize && plausibleReport(b[ResponseHeader:]):
		return fmt.Sprintf("the firmware's response of %d bytes, with a report at byte %d", ResponseSize, ResponseHeader)
	}
	for _, m := range magics {
		if bytes.HasPrefix(b, []byte(m.begin)) || m.begin == "<" && bytes.HasPrefix(bytes.TrimSpace(b), []byte(m.begin)) {
			return m.name
		}
	}
	if name := recogniseText(b); name != "" {
		return name
	}
	if _, err := x509.ParseCertificate(b); err == nil {
		return "a certificate in DER"
	}
	if _, err := x509.ParseRevocationList(b); err == nil {
		return "a revocation list in DER"
	}
	if bytes.Contains(b[:min(len(b), 64)], oidSignedData) {
		return "certificates in PKCS #7 (.p7b): `openssl pkcs7 -inform DER -print_certs` converts them"
	}
	if entries, err := ParseTable(b); err == nil && len(entries) > 0 {
		return "the host's certificate table: not one certificate, but several with a directory"
	}
	return ""
}

// oidSignedData is 1.2.840.113549.1.7.2 in DER (RFC 2315, section 14).
var oidSignedData = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}

// plausibleReport reports whether b begins as a report does: a version that there is, and
// reserved words that are zero.
func plausibleReport(b []byte) bool {
	if len(b) < ReportSize {
		return false
	}
	version, algorithm := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[0x34:])
	return version >= 1 && version <= 16 && algorithm <= 1 && binary.LittleEndian.Uint32(b[offsetVMPL:]) <= 3
}

// recogniseText recognises PEM, JSON, and bytes in hexadecimal or base64.
func recogniseText(b []byte) string {
	b = bytes.TrimSpace(bytes.TrimPrefix(b, []byte(bom)))
	if len(b) == 0 || len(b) > maxRecognised {
		return ""
	}
	if b[0] == '{' || b[0] == '[' {
		return recogniseJSON(b)
	}
	if at := beginOfBlock(b); at >= 0 {
		label, _, _ := bytes.Cut(b[at+len(beginBlock):], []byte("-----"))
		return recogniseLabel(string(label))
	}
	if inner, form := Untext(b); inner != nil {
		if name := Recognise(inner); name != "" {
			return name + ", in " + form
		}
		return fmt.Sprintf("%d bytes in %s", len(inner), form)
	}
	return ""
}

// bom is the byte order mark in UTF-8.
const bom = "\xef\xbb\xbf"

// maxLabel is how many bytes of a label are shown.
const maxLabel = 40

func recogniseLabel(label string) string {
	label = label[:min(len(label), maxLabel)]
	switch {
	case isCertificate(label):
		return "certificates in PEM"
	case label == "X509 CRL":
		return "a revocation list in PEM, which is not a certificate (agentctl: --crl)"
	case label == "TRUSTED CERTIFICATE":
		return "a certificate with OpenSSL's trust settings: `openssl x509 -in FILE` converts it"
	case label == "PKCS7" || label == "CMS":
		return "certificates in PKCS #7: `openssl pkcs7 -print_certs` converts them"
	case strings.HasSuffix(label, "PRIVATE KEY"):
		return "a PRIVATE KEY, which belongs in no file that is handed around"
	}
	return fmt.Sprintf("PEM of %q", label)
}

// isCertificate reports whether a PEM label is that of a certificate (RFC 7468, section 5.1).
func isCertificate(label string) bool {
	return label == "CERTIFICATE" || label == "X509 CERTIFICATE" || label == "X.509 CERTIFICATE"
}

// recogniseJSON recognises JSON by its members.
func recogniseJSON(b []byte) string {
	if b[0] == '[' {
		return "a JSON array"
	}
	var doc map[string]any
	if strictjson.Decode(b, maxRecognised, &doc) != nil {
		return "something like JSON that does not parse"
	}
	has := func(names ...string) bool {
		for _, n := range names {
			if _, ok := doc[n]; !ok {
				return false
			}
		}
		return true
	}
	switch {
	case has("vcekCert"):
		return "the answer of Azure's metadata service (THIM) in JSON: its members vcekCert and certificateChain are the certificates in PEM (`jq -r '.vcekCert, .certificateChain'`)"
	case has("attestation_report"):
		return "evidence of Trustee (CoCo) in JSON, whose report is spelled out in a form that may leave out what is signed: ask its attester for the report itself, 1184 bytes"
	case has("guest_svn", "report_data", "measurement"):
		return "a report as virtee's tools print it in JSON, in a form that may leave out what is signed: `snpguest report FILE REQUEST` writes the bytes"
	case has("outblob"), has("OutBlob"):
		return "what the kernel's TSM interface answered, in JSON"
	case has("type"):
		if kind, ok := doc["type"].(string); ok && strings.HasPrefix(kind, "agentd/") {
			return fmt.Sprintf("a document of agentd, of type %q", kind[:min(len(kind), 40)])
		}
	}
	return "a JSON object"
}

// Untext returns the bytes that b has in hexadecimal or base64, and which of these, nil if it
// has neither. It allows white space anywhere, as tools break lines.
func Untext(b []byte) (inner []byte, form string) {
	if len(b) > maxRecognised {
		return nil, ""
	}
	packed := strings.Join(strings.Fields(string(bytes.TrimPrefix(b, []byte(bom)))), "")
	if len(packed) < 16 {
		return nil, ""
	}
	if inner, err := hex.DecodeString(strings.TrimPrefix(packed, "0x")); err == nil {
		return inner, "hexadecimal"
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if inner, err := e.Strict().DecodeString(packed); err == nil {
			return inner, "base64"
		}
	}
	return nil, ""
}
