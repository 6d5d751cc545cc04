package keys_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/pelletier/go-toml/v2"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

var kinds = []keys.EKKind{keys.EKRSA2048, keys.EKECC256}

func readEK(t *testing.T, s transport.TPM, kind keys.EKKind) *keys.EK {
	t.Helper()
	ek, err := keys.ReadEK(s, kind, none)
	if err != nil {
		t.Fatal(err)
	}
	return ek
}

// challenge goes through both sides.
func challenge(t *testing.T, s transport.TPM, ak *keys.AK, kind keys.EKKind) (*keys.Challenge, *keys.Expected, []byte) {
	t.Helper()
	c, expected, err := keys.NewChallenge(readEK(t, s, kind).Public.Bytes(), ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ak.Activate(s, kind, c, none)
	if err != nil {
		t.Fatal(err)
	}
	return c, expected, answer
}

func TestActivate(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := swtpm.Start(t)
			ak := provision(t, s, nil)
			for range 10 { // coordinates and secrets that begin with zero come by in time
				_, expected, answer := challenge(t, s, ak, kind)
				if err := expected.Check(answer); err != nil {
					t.Fatal(err)
				}
				if !expected.AK.Equal(ak.Name()) {
					t.Errorf("expected names %s, want %s", expected.AK, ak.Name())
				}
				for _, wrong := range [][]byte{nil, answer[:31], append(answer[:31:31], answer[31]^1), append(answer[:32:32], 0)} {
					if err := expected.Check(wrong); !errors.Is(err, keys.ErrCredential) {
						t.Errorf("answer %x: got %v, want ErrCredential", wrong, err)
					}
				}
			}
			if n := transients(t, s); n != 1 {
				t.Errorf("%d transient objects, want the attestation key alone", n)
			}
			if err := new(keys.Expected).Check(nil); err == nil {
				t.Error("nothing was expected, and nothing is taken for it")
			}
		})
	}
}

// A challenge that was made for another key or another TPM is not answered.
func TestActivateRefused(t *testing.T) {
	s, other := swtpm.Start(t), swtpm.Start(t)
	ak := provision(t, s, nil)
	second := provision(t, s, nil)
	foreign := provision(t, other, nil)
	for _, kind := range kinds {
		ek := readEK(t, s, kind).Public.Bytes()
		make := func(ek []byte, ak *keys.AK) *keys.Challenge {
			c, _, err := keys.NewChallenge(ek, ak.Public())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		good := make(ek, ak)
		flip := func(b []byte, i int) []byte {
			b = bytes.Clone(b)
			b[i] ^= 1
			return b
		}
		for name, c := range map[string]*keys.Challenge{
			"another key's name":    make(ek, second),
			"another TPM's AK":      make(ek, foreign),
			"another TPM's EK":      make(readEK(t, other, kind).Public.Bytes(), ak),
			"HMAC flipped":          {Credential: flip(good.Credential, 10), Secret: good.Secret},
			"HMAC size flipped":     {Credential: flip(good.Credential, 1), Secret: good.Secret},
			"last byte flipped":     {Credential: flip(good.Credential, len(good.Credential)-1), Secret: good.Secret},
			"encrypted secret flip": {Credential: good.Credential, Secret: flip(good.Secret, 20)},
			"encrypted secret cut":  {Credential: good.Credential, Secret: good.Secret[:len(good.Secret)-1]},
			"credential cut":        {Credential: good.Credential[:40], Secret: good.Secret},
		} {
			if answer, err := ak.Activate(s, kind, c, none); !errors.Is(err, keys.ErrCredential) {
				t.Errorf("%s, %s: got %x, %v, want ErrCredential", kind, name, answer, err)
			}
		}
		for name, c := range map[string]*keys.Challenge{
			"nothing": {},
			"large":   {Credential: good.Credential, Secret: bytes.Repeat([]byte{1}, 2000)},
		} {
			if _, err := ak.Activate(s, kind, c, none); err == nil {
				t.Errorf("%s, %s: no error", kind, name)
			}
		}
		if _, err := ak.Activate(s, kind, good, none); err != nil {
			t.Errorf("%s: the good one: %v", kind, err)
		}
	}
	if _, err := ak.Activate(s, "rsa3072", &keys.Challenge{}, none); err == nil {
		t.Error("an unknown kind is no error")
	}
}

// case 50: no challenge is made for a key that is not what an attestation key must
// be, or to an endorsement key that is none.
func TestNewChallengeRefused(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil).Public()
	ek := readEK(t, s, keys.EKECC256).Public.Bytes()
	change := func(b []byte, f func(*tpm2.TPMTPublic)) []byte {
		p, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
		if err != nil {
			t.Fatal(err)
		}
		f(p)
		return tpm2.Marshal(*p)
	}
	for name, c := range map[string]struct {
		ek, ak []byte
		want   string
	}{
		"AK not restricted":      {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }), "not restricted"},
		"AK not fixedTPM":        {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }), "not fixedTPM"},
		"AK not fixedParent":     {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false }), "not fixedParent"},
		"AK imported":            {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false }), "not sensitiveDataOrigin"},
		"AK duplicable":          {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.EncryptedDuplication = true }), "encryptedDuplication"},
		"AK decrypts":            {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true }), "does not decrypt"},
		"AK does not sign":       {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false }), "want a key that signs"},
		"AK named under SHA-1":   {ek, change(ak, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 }), "name algorithm"},
		"AK signs over SHA-1":    {ek, change(ak, scheme(tpm2.TPMAlgSHA1)), "signs over hash 0x0004"},
		"AK without a scheme":    {ek, change(ak, curve(tpm2.TPMECCNistP256, tpm2.TPMAlgNull)), "want ECDSA"},
		"AK on another curve":    {ek, change(ak, curve(tpm2.TPMECCNistP224, tpm2.TPMAlgECDSA)), "want P-256 or P-384"},
		"AK off the curve":       {ek, change(ak, point), "public key"},
		"AK is RSA-1024":         {ek, tpm2.Marshal(rsaAK(1024)), "RSA of 1024 bits"},
		"AK is an EK":            {ek, ek, "want a key that signs"},
		"AK is a sealed object":  {ek, []byte{0, 8, 0, 0x0b, 0, 0, 0, 0x52, 0, 0, 0, 0x10, 0, 0}, "not sensitiveDataOrigin"},
		"AK cut":                 {ek, ak[:len(ak)-1], "parse TPMT_PUBLIC"},
		"AK with trailing bytes": {ek, append(ak[:len(ak):len(ak)], 0), "parse TPMT_PUBLIC"},
		"AK large":               {ek, make([]byte, 2000), "2000 bytes"},
		"AK empty":               {ek, nil, "0 bytes"},
		"EK is an AK":            {ak, ak, "not that of an endorsement key"},
		"EK not fixedTPM":        {change(ek, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }), ak, "not that of an endorsement key"},
		"EK without restriction": {change(ek, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }), ak, "not that of an endorsement key"},
		"EK with another policy": {change(ek, func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer[0] ^= 1 }), ak, "not that of an endorsement key"},
		"EK is a storage key":    {tpm2.Marshal(tpm2.ECCSRKTemplate), ak, "not that of an endorsement key"},
		"EK off the curve":       {change(ek, point), ak, "public key"},
		"EK with trailing bytes": {append(ek[:len(ek):len(ek)], 0), ak, "parse TPMT_PUBLIC"},
		"EK empty":               {nil, ak, "0 bytes"},
	} {
		_, _, err := keys.NewChallenge(c.ek, c.ak)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := keys.NewChallenge(ek, tpm2.Marshal(rsaAK(2048))); err != nil {
		t.Errorf("RSA-2048: %v", err)
	}
}

func curve(c tpm2.TPMECCCurve, scheme tpm2.TPMAlgID) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		d := tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			CurveID:   c,
			Scheme:    tpm2.TPMTECCScheme{Scheme: scheme},
			KDF:       tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}
		if scheme == tpm2.TPMAlgECDSA {
			d.Scheme.Details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})
		}
		p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &d)
	}
}

func scheme(hash tpm2.TPMIAlgHash) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		d, _ := p.Parameters.ECCDetail()
		d.Scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})
		p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, d)
	}
}

func point(p *tpm2.TPMTPublic) {
	u, _ := p.Unique.ECC()
	u.X.Buffer[5] ^= 1
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, u)
}

func rsaAK(bits tpm2.TPMKeyBits) tpm2.TPMTPublic {
	n := bytes.Repeat([]byte{0xff}, int(bits)/8)
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme:    tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
			KeyBits:   bits,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: n}),
	}
}

// An endorsement authorization that is set is a value of the configuration.
func TestEndorsementAuth(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	c, expected, err := keys.NewChallenge(readEK(t, s, keys.EKECC256).Public.Bytes(), ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("endorsement")
	setAuth(t, s, tpm2.TPMRHEndorsement, secret)
	for _, wrong := range [][]byte{nil, []byte("wrong")} {
		_, err := keys.ReadEK(s, keys.EKECC256, keys.Auths{Endorsement: wrong})
		var auth *keys.AuthError
		if !errors.As(err, &auth) || auth.Hierarchy != "endorsement" || !strings.Contains(err.Error(), "tpm.endorsement_auth_file") {
			t.Errorf("read with %q: got %v", wrong, err)
		}
		if _, err := ak.Activate(s, keys.EKECC256, c, keys.Auths{Endorsement: wrong}); !errors.As(err, &auth) {
			t.Errorf("activate with %q: got %v", wrong, err)
		}
	}
	answer, err := ak.Activate(s, keys.EKECC256, c, keys.Auths{Endorsement: secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := expected.Check(answer); err != nil {
		t.Error(err)
	}
}

// Our challenges are those of the TPM's own TPM2_MakeCredential: it answers them, and
// ours opens what it makes.
func TestMakeCredentialOfTPM(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	for _, kind := range kinds {
		ek := readEK(t, s, kind)
		loaded, err := tpm2.LoadExternal{InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](ek.Public.Bytes()), Hierarchy: tpm2.TPMRHNull}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		secret := make([]byte, 32)
		rand.Read(secret)
		made, err := tpm2.MakeCredential{
			Handle: loaded.ObjectHandle, Credential: tpm2.TPM2BDigest{Buffer: secret}, ObjectName: tpm2.TPM2BName{Buffer: ak.Name()},
		}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}).Execute(s); err != nil {
			t.Fatal(err)
		}
		answer, err := ak.Activate(s, kind, &keys.Challenge{Credential: made.CredentialBlob.Buffer, Secret: made.Secret.Buffer}, none)
		if err != nil || !bytes.Equal(answer, secret) {
			t.Errorf("%s: got %x, %v, want %x", kind, answer, err, secret)
		}
		ours, err := keys.MakeCredential(ek.Public, ak.Name(), secret)
		if err != nil {
			t.Fatal(err)
		}
		if len(ours.Credential) != len(made.CredentialBlob.Buffer) || len(ours.Secret) != len(made.Secret.Buffer) {
			t.Errorf("%s: our challenge has %d and %d bytes, the TPM's %d and %d", kind,
				len(ours.Credential), len(ours.Secret), len(made.CredentialBlob.Buffer), len(made.Secret.Buffer))
		}
	}
}

// tpm2-tools make challenges that we answer, and answer challenges that we make.
func TestCredentialWithTools(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	dir := t.TempDir()
	file := func(t *testing.T, name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(t *testing.T, name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(t *testing.T, name string, args ...string) {
		t.Helper()
		if out, err := p.Tool(t, dir, name, args...); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	for _, kind := range []struct{ ours, theirs, handle string }{{"rsa2048", "rsa", "0x81010001"}, {"p256", "ecc", "0x81010002"}} {
		t.Run(kind.ours, func(t *testing.T) {
			// Theirs to ours. Their EK stays in the TPM, so that it is also found there.
			run(t, "tpm2_createek", "-c", kind.handle, "-G", kind.theirs, "-u", "ek.pub")
			ak, err := keys.Provision(s, nil, none)
			if err != nil {
				t.Fatal(err)
			}
			write(t, "secret", []byte("0123456789abcdef0123456789abcdef"))
			run(t, "tpm2_makecredential", "-u", "ek.pub", "-s", "secret", "-n", hex.EncodeToString(ak.Name()), "-o", "credential")
			answer, err := ak.Activate(s, keys.EKKind(kind.ours), parseToolCredential(t, file(t, "credential")), none)
			if err != nil || !bytes.Equal(answer, file(t, "secret")) {
				t.Errorf("theirs to ours: got %q, %v", answer, err)
			}
			if err := ak.Flush(s); err != nil {
				t.Fatal(err)
			}

			// Ours to theirs, for an AK that they make.
			run(t, "tpm2_createak", "-C", kind.handle, "-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name", "-G", "ecc", "-g", "sha256", "-s", "ecdsa")
			akPublic, ekPublic := file(t, "ak.pub")[2:], file(t, "ek.pub")[2:] // TPM2B: a size stands before
			c, expected, err := keys.NewChallenge(ekPublic, akPublic)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(expected.AK, file(t, "ak.name")) {
				t.Errorf("name %s, tpm2-tools say %x", expected.AK, file(t, "ak.name"))
			}
			write(t, "challenge", toolCredential(c))
			run(t, "tpm2_flushcontext", "-t")
			run(t, "tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
			run(t, "tpm2_policysecret", "-S", "session.ctx", "-c", "e")
			run(t, "tpm2_activatecredential", "-c", "ak.ctx", "-C", kind.handle, "-i", "challenge", "-o", "answer", "-P", "session:session.ctx")
			run(t, "tpm2_flushcontext", "session.ctx")
			run(t, "tpm2_flushcontext", "-t")
			if err := expected.Check(file(t, "answer")); err != nil {
				t.Errorf("ours to theirs: %v", err)
			}
		})
	}
}

// The file of tpm2_makecredential: magic 0xbadcc0de, version 1, both big-endian, then
// TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
func toolCredential(c *keys.Challenge) []byte {
	b := []byte{0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1}
	for _, part := range [][]byte{c.Credential, c.Secret} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
		b = append(b, part...)
	}
	return b
}

func parseToolCredential(t *testing.T, b []byte) *keys.Challenge {
	t.Helper()
	n := int(binary.BigEndian.Uint16(b[8:]))
	c := &keys.Challenge{Credential: b[10 : 10+n], Secret: b[12+n:]}
	if !bytes.Equal(toolCredential(c), b) {
		t.Fatalf("%x is not what this test takes it for", b)
	}
	return c
}

func TestEnrolment(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	_, expected, answer := challenge(t, s, ak, keys.EKECC256)
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("east", 3600))
	if _, err := keys.NewEnrolment(expected, append([]byte{answer[0] ^ 1}, answer[1:]...), keys.NoIssuer, now); !errors.Is(err, keys.ErrCredential) {
		t.Errorf("a wrong answer enrols: %v", err)
	}
	if _, err := keys.NewEnrolment(expected, answer, "", now); err == nil {
		t.Error("an enrolment without a word on the issuer")
	}
	if _, err := keys.NewEnrolment(expected, answer, keys.NoIssuer, time.Time{}); err == nil {
		t.Error("an enrolment without a time")
	}
	e, err := keys.NewEnrolment(expected, answer, keys.NoIssuer, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, codec := range map[string]struct {
		marshal   func(any) ([]byte, error)
		unmarshal func([]byte, any) error
	}{
		"JSON": {json.Marshal, json.Unmarshal},
		"TOML": {toml.Marshal, toml.Unmarshal},
	} {
		b, err := codec.marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(ak.Name().String())) {
			t.Errorf("%s: %s does not hold the name of the key in hexadecimal", name, b)
		}
		var back keys.Enrolment
		if err := codec.unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if !back.AK.Equal(e.AK) || !back.EK.Equal(e.EK) || back.EKIssuer != e.EKIssuer || !back.Enrolled.Equal(e.Enrolled) || back.Check() != nil {
			t.Errorf("%s: %+v became %+v", name, e, back)
		}
		if err := codec.unmarshal(bytes.Replace(b, []byte("000b"), []byte("000B"), 1), &back); err == nil {
			t.Errorf("%s: a name in upper case is read", name)
		}
	}
}
