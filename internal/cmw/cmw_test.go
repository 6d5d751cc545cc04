// SPDX-License-Identifier: Apache-2.0

package cmw

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// example is a document; what is in it does not matter here.
var example = []byte(`{"type":"agentd/evidence/2"}`)

// TestRecords has the exact bytes of both forms.
func TestRecords(t *testing.T) {
	for form, want := range map[Form]string{
		JSON: `["application/vnd.agentd.evidence+json","eyJ0eXBlIjoiYWdlbnRkL2V2aWRlbmNlLzIifQ",4]`,
		CBOR: "\x83\x78\x24application/vnd.agentd.evidence+json\x58\x1c" + string(example) + "\x04",
	} {
		record, err := Wrap(form, example)
		if err != nil || string(record) != want {
			t.Fatalf("%s: %v\n%q, want\n%q", form, err, record, want)
		}
		if got := FormOf(record); got != form {
			t.Errorf("%s: looks like %q", form, got)
		}
		document, err := Unwrap(form, record)
		if err != nil || !bytes.Equal(document, example) {
			t.Errorf("%s: %v, %q", form, err, document)
		}
	}
	for _, c := range []struct {
		form   Form
		record string
	}{
		{JSON, `["application/vnd.agentd.evidence+json","eyJ0eXBlIjoiYWdlbnRkL2V2aWRlbmNlLzIifQ"]`}, // without the indicator
		{JSON, " [ \"application\\u002fvnd.agentd.evidence+json\" ,\n\"eyJ0eXBlIjoiYWdlbnRkL2V2aWRlbmNlLzIifQ\" , 4 ] \n"},
		{CBOR, "\x82\x78\x24" + MediaType + "\x58\x1c" + string(example)},
	} {
		if document, err := Unwrap(c.form, []byte(c.record)); err != nil || !bytes.Equal(document, example) {
			t.Errorf("%q: %v, %q", c.record, err, document)
		}
	}
}

// TestSizes: each length of CBOR comes back, at every step of its encoding.
func TestSizes(t *testing.T) {
	for _, n := range []int{1, 2, 3, 23, 24, 255, 256, 65_535, 65_536, 1 << 20} {
		for _, form := range []Form{JSON, CBOR} {
			in := bytes.Repeat([]byte{'x'}, n)
			record, err := Wrap(form, in)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := Unwrap(form, record); err != nil || !bytes.Equal(in, out) {
				t.Errorf("%s, %d bytes: %v", form, n, err)
			}
		}
	}
	for _, n := range []int{0, evidence.MaxEvidence + 1} {
		for _, form := range []Form{JSON, CBOR} {
			if _, err := Wrap(form, make([]byte, n)); err == nil {
				t.Errorf("%s: a document of %d bytes was wrapped", form, n)
			}
		}
	}
	if _, err := Wrap("xml", example); err == nil {
		t.Error("an unknown form was written")
	}
}

// TestRefusedRecords: whatever is not exactly one record of evidence is refused, with the reason.
func TestRefusedRecords(t *testing.T) {
	const value = "eyJ0eXBlIjoiYWdlbnRkL2V2aWRlbmNlLzIifQ"
	head := "\x78\x24" + MediaType
	body := "\x58\x1c" + string(example)
	for _, c := range []struct {
		form         Form
		record, says string
	}{
		{JSON, ``, ""},
		{JSON, `{}`, "an array"},
		{JSON, `{"__cmwc_t":"x","a":["` + MediaType + `","` + value + `"]}`, "an array"},
		{JSON, `[]`, "media type"},
		{JSON, `["` + MediaType + `"]`, "base64url"},
		{JSON, `["application/eat+cwt","` + value + `"]`, `"application/eat+cwt"`},
		{JSON, `["` + strings.ToUpper(MediaType) + `","` + value + `"]`, "of the type"},
		{JSON, `["` + MediaType + `; v=2","` + value + `"]`, "of the type"},
		{JSON, `[65000,"` + value + `"]`, "media type"},
		{JSON, `["` + MediaType + `","` + value + `",8]`, "indicator"},
		{JSON, `["` + MediaType + `","` + value + `",12]`, "indicator"},
		{JSON, `["` + MediaType + `","` + value + `",4.0]`, "indicator"},
		{JSON, `["` + MediaType + `","` + value + `","4"]`, "end of the record"},
		{JSON, `["` + MediaType + `","` + value + `",null]`, "end of the record"},
		{JSON, `["` + MediaType + `","` + value + `",4,4]`, "end of the record"},
		{JSON, `["` + MediaType + `","` + value + `",4]x`, ""},
		{JSON, `["` + MediaType + `","` + value + `",4][]`, "follows"},
		{JSON, `["` + MediaType + `","` + value + `=="]`, "base64url"},
		{JSON, `["` + MediaType + `","` + value[:37] + `R"]`, "base64url"}, // bits after the last byte
		{JSON, `["` + MediaType + `","` + value[:20] + `\n` + value[20:] + `"]`, "base64url"},
		{JSON, `["` + MediaType + `","ab+/"]`, "base64url"},
		{JSON, `["` + MediaType + `",""]`, "document"},
		{JSON, "[\"" + MediaType + "\",\"\xff\"]", "UTF-8"},
		{JSON, `["` + MediaType + `","` + value, ""},
		{CBOR, "", "within"},
		{CBOR, "\x81" + head, "1 members"},
		{CBOR, "\x84" + head + body + "\x04\x04", "4 members"},
		{CBOR, "\x80", "0 members"},
		{CBOR, "\x9f" + head + body + "\xff", "indefinite"},
		{CBOR, "\x98\x02" + head + body, "shortest"},
		{CBOR, "\x82\x79\x00\x24" + MediaType + body, "shortest"},
		{CBOR, "\x82" + head + "\x59\x00\x1c" + string(example), "shortest"},
		{CBOR, "\x83" + head + body + "\x18\x04", "shortest"},
		{CBOR, "\x82" + head + "\x5f" + body + "\xff", "indefinite"},
		{CBOR, "\x82" + head + "\x5c" + string(example), "reserves"},
		{CBOR, "\x82\x19\xfd\xe7" + body, "an integer"}, // a content format of CoAP
		{CBOR, "\x82" + head + "\x78\x1c" + string(example), "a text string"},
		{CBOR, "\xa1\x61a\x82" + head + body, "collection"},
		{CBOR, "\xda\x63\x74\x00\x00" + body, "a tag"},
		{CBOR, "\x82\x61\xff" + body, "UTF-8"},
		{CBOR, "\x82\x73application/eat+cwt" + body, "application/eat+cwt"},
		{CBOR, "\x83" + head + body + "\x08", "indicator"},
		{CBOR, "\x83" + head + body + "\x20", "indicator"}, // -1
		{CBOR, "\x83" + head + body, "within"},
		{CBOR, "\x82" + head + body + "\x04", "follow"},
		{CBOR, "\x82" + head + "\x5b\xff\xff\xff\xff\xff\xff\xff\xff" + string(example), "are left"},
		{CBOR, "\x82" + head + "\x5b\x00\x00", "within"},
		{CBOR, "\x82" + head + "\x58\x1d" + string(example), "are left"},
		{CBOR, "\x82" + head + "\x40", "document"},
		{"xml", "x", "form"},
	} {
		document, err := Unwrap(c.form, []byte(c.record))
		if err == nil || document != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %q: %q, %v: want an error that says %q", c.form, c.record, document, err, c.says)
		}
	}
	for _, form := range []Form{JSON, CBOR} {
		if _, err := Unwrap(form, make([]byte, Max+1)); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%s: more than the limit is read: %v", form, err)
		}
	}
}

// TestForms: nothing that is evidence or a report looks like a record.
func TestForms(t *testing.T) {
	for b, want := range map[string]Form{"": "", "{": "", "  {\"type\"": "", "[": JSON, "\n [": JSON, "\x82": CBOR, "\x9f": CBOR, "\xa1": "", "\x02\x00\x00\x00": "", "-----BEGIN": ""} {
		if got := FormOf([]byte(b)); got != want {
			t.Errorf("%q looks like %q, want %q", b, got, want)
		}
	}
}

// certificate is a certificate that signs itself, with these extensions.
func certificate(tb testing.TB, extensions ...pkix.Extension) []byte {
	tb.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0), ExtraExtensions: extensions}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func extension(tb testing.TB, form Form) pkix.Extension {
	tb.Helper()
	x, err := NewExtension(form, example)
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// TestCertificates: evidence comes out of both forms of the extension, in PEM and DER, with the key of the
// certificate. Anything else is refused.
func TestCertificates(t *testing.T) {
	spki, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(make([]byte, 32)).Public())
	if err != nil {
		t.Fatal(err)
	}
	good := certificate(t, extension(t, CBOR))
	critical := extension(t, CBOR)
	critical.Critical = true
	for name, b := range map[string]string{
		"DER, CBOR": string(good), "DER, JSON": string(certificate(t, extension(t, JSON))), "PEM": encodePEM("CERTIFICATE", good), "critical": string(certificate(t, critical)),
		"PEM after a line": "\n" + encodePEM("CERTIFICATE", good),
	} {
		document, key, err := FromCertificate([]byte(b))
		if err != nil || !bytes.Equal(document, example) || !bytes.Equal(key, spki) || !IsCertificate([]byte(b)) {
			t.Errorf("%s: %v, %q, %x", name, err, document, key)
		}
	}
	value := func(b ...byte) []byte { return certificate(t, pkix.Extension{Id: Extension, Value: b}) }
	foreign, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagOctetString, Bytes: []byte("\x82\x73application/eat+cwt\x41x")})
	if err != nil {
		t.Fatal(err)
	}
	record, err := Wrap(JSON, example)
	if err != nil {
		t.Fatal(err)
	}
	crossed, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagOctetString, Bytes: record}) // JSON where CBOR belongs
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ b, says string }{
		"no extension":     {string(certificate(t)), "no extension id-pe-cmw"},
		"two certificates": {encodePEM("CERTIFICATE", good) + encodePEM("CERTIFICATE", good), "one PEM block"},
		"a key":            {encodePEM("PUBLIC KEY", spki), "one PEM block"},
		"cut":              {string(good[:len(good)-1]), "read a certificate"},
		"longer":           {string(good) + "x", "read a certificate"},
		"empty value":      {string(value()), "want one"},
		"integer":          {string(value(2, 1, 4)), "tag 2"},
		"sequence":         {string(value(0x30, 0)), "want one"},
		"constructed":      {string(value(0x24, 2, 4, 0)), "want one"},
		"two values":       {string(value(4, 1, 'x', 4, 1, 'x')), "want one"},
		"implicit tag":     {string(value(0x80, 1, 'x')), "want one"},
		"another type":     {string(certificate(t, pkix.Extension{Id: Extension, Value: foreign})), "application/eat+cwt"},
		"JSON as CBOR":     {string(certificate(t, pkix.Extension{Id: Extension, Value: crossed})), "id-pe-cmw"},
		"large":            {strings.Repeat("x", 2*MaxCertificate), "at most"},
		"nothing":          {"", "read a certificate"},
	} {
		document, key, err := FromCertificate([]byte(c.b))
		if err == nil || document != nil || key != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v, want %q", name, document, err, c.says)
		}
	}
}

// TestExtension has the bytes of the extension: the tag of its form, then the record.
func TestExtension(t *testing.T) {
	x := extension(t, JSON)
	if got := hex.EncodeToString(x.Value[:2]); x.Critical || got[:2] != "0c" || x.Id.String() != "1.3.6.1.5.5.7.1.35" {
		t.Errorf("%s, critical %v, %v", got, x.Critical, x.Id)
	}
	if x = extension(t, CBOR); x.Value[0] != 4 {
		t.Errorf("tag %d", x.Value[0])
	}
	if _, err := NewExtension(CBOR, nil); err == nil {
		t.Error("an extension without a document")
	}
}

// FuzzJSON (case 66): what is read from JSON is what a record of it contains.
func FuzzJSON(f *testing.F) {
	record, err := Wrap(JSON, example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Add([]byte(`["` + MediaType + `", "ab"]`))
	f.Add([]byte(`{"a":["` + MediaType + `","ab",4]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		document, err := Unwrap(JSON, b)
		if err != nil {
			return
		}
		if !bytes.Contains(bytes.ReplaceAll(b, []byte("\\u"), nil), []byte(base64.RawURLEncoding.EncodeToString(document))) && !bytes.ContainsRune(b, '\\') {
			t.Errorf("%q is read as %q", b, document)
		}
		again, err := Wrap(JSON, document)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Unwrap(JSON, again); err != nil || !bytes.Equal(back, document) {
			t.Errorf("%q does not come back: %v", document, err)
		}
	})
}

// FuzzCBOR (case 66): a record has one spelling, with the indicator or without.
func FuzzCBOR(f *testing.F) {
	record, err := Wrap(CBOR, example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Add([]byte("\x82\x78\x24" + MediaType + "\x41x"))
	f.Add([]byte("\x9f\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		document, err := Unwrap(CBOR, b)
		if err != nil {
			return
		}
		again, err := Wrap(CBOR, document)
		if err != nil {
			t.Fatal(err)
		}
		short := append([]byte{0x82}, again[1:len(again)-1]...)
		if !bytes.Equal(b, again) && !bytes.Equal(b, short) {
			t.Errorf("%q is read as %q, whose record is %q", b, document, again)
		}
	})
}

// FuzzCertificate (case 66): what comes out of a certificate is in it, in a record.
func FuzzCertificate(f *testing.F) {
	for _, form := range []Form{JSON, CBOR} {
		der := certificate(f, extension(f, form))
		f.Add(der)
		f.Add([]byte(encodePEM("CERTIFICATE", der)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		document, key, err := FromCertificate(b)
		if err != nil {
			return
		}
		if _, err := x509.ParsePKIXPublicKey(key); err != nil && len(key) == 0 {
			t.Errorf("no key: %v", err)
		}
		if len(document) == 0 || len(document) > MaxCertificate {
			t.Errorf("a document of %d bytes", len(document))
		}
	})
}
