// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/launch"
	"github.com/cvm-agentd/agentd/test/jsonschema"
	"github.com/cvm-agentd/agentd/verify"
)

// idKeys writes private keys, ECDSA on P-384, into the current folder.
func idKeys(t *testing.T, names ...string) {
	t.Helper()
	for i, name := range names {
		scalar := make([]byte, 48) // a key for a document, no secret
		scalar[47] = byte(i + 1)
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), scalar)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// measurementText is a launch measurement.
var measurementText = strings.Repeat("4d", 48)

// TestPolicyIDBlock: what create writes, check accepts, with the rule that create printed.
// The rule is one of a policy, and names the keys by their digests.
func TestPolicyIDBlock(t *testing.T) {
	schemas := absolute(t, schemaFolder)
	t.Chdir(t.TempDir())
	idKeys(t, "id.pem", "author.pem")
	for _, c := range []struct {
		args string
		want verify.Image
		says string
	}{
		{"", verify.Image{}, "guest policy 0x30000"},
		{"--author-key author.pem", verify.Image{}, "right"},
		{"--guest-svn 4294967295 --family-id 000102030405060708090a0b0c0d0e0f --image-id ffffffffffffffffffffffffffffffff --guest-policy 0xb0000 --author-key author.pem",
			verify.Image{MinGuestSVN: 4294967295, FamilyID: "000102030405060708090a0b0c0d0e0f", ImageID: strings.Repeat("ff", 16)}, "DANGER: the guest policy allows debugging"},
		{"--guest-policy 0x70000", verify.Image{}, "DANGER: the guest policy allows a migration agent"},
	} {
		args := append([]string{"policy", "id-block", "create", "--measurement", measurementText, "--id-key", "id.pem", "--block", "block", "--auth", "auth"}, strings.Fields(c.args)...)
		code, rule, stderr := agentctl(t, args...)
		if code != exitOK || !strings.Contains(rule, c.says) {
			t.Fatalf("%s: exit code %d, %s%s", c.args, code, rule, stderr)
		}
		p, err := verify.ParsePolicy([]byte("version = 1\n[[launch]]\nmeasurement = \"" + measurementText + "\"\nkind = \"plain\"\ncovers = \"firmware\"\n" + rule))
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.args, err, rule)
		}
		signed := strings.Contains(c.args, "author.pem")
		if len(p.Image.IDKeyDigests) != 1 || len(p.Image.AuthorKeyDigests) == 1 != signed || p.Image.MinGuestSVN != c.want.MinGuestSVN || p.Image.FamilyID != c.want.FamilyID || p.Image.ImageID != c.want.ImageID {
			t.Errorf("%s: %+v", c.args, p.Image)
		}
		checking := []string{"policy", "id-block", "check", "--block", "block", "--auth", "auth"}
		for _, more := range [][]string{nil, {"--measurement", measurementText}} {
			if code, again, stderr := agentctl(t, append(checking, more...)...); code != exitOK || again != rule {
				t.Errorf("%s: check: exit code %d, %s%s", c.args, code, again, stderr)
			}
		}
		code, out, stderr := agentctl(t, append(checking, "--json")...)
		jsonschema.FitsFile(t, filepath.Join(schemas, "policy-id-block-check.json"), c.args, []byte(out))
		var v struct {
			IDKeyDigest, AuthorKeyDigest, Measurement string
			GuestSVN                                  int64
			Dangers                                   []string
		}
		if err := json.Unmarshal([]byte(out), &v); code != exitOK || err != nil || v.IDKeyDigest != p.Image.IDKeyDigests[0] || v.Measurement != measurementText || v.GuestSVN != c.want.MinGuestSVN || (v.AuthorKeyDigest != "") != signed {
			t.Errorf("%s: exit code %d, %v, %s%s", c.args, code, err, out, stderr)
		}
		if danger := strings.HasPrefix(c.says, "DANGER"); v.Dangers == nil || danger != (len(v.Dangers) == 1) || danger && !strings.Contains(v.Dangers[0], c.says) || danger != strings.Contains(rule, "DANGER") {
			t.Errorf("%s: dangers %q", c.args, v.Dangers)
		}
	}
}

// TestPolicyIDBlockFiles: binary files are read as base64 is, and a second run writes the
// same bytes.
func TestPolicyIDBlockFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	idKeys(t, "id.pem")
	create := []string{"policy", "id-block", "create", "--measurement", measurementText, "--id-key", "id.pem", "--block", "block", "--auth", "auth"}
	sizes := map[string]int{"block": launch.IDBlockSize, "auth": launch.IDAuthSize}
	first := map[string]string{}
	for range 2 {
		if code, _, stderr := agentctl(t, create...); code != exitOK {
			t.Fatal(stderr)
		}
		for name, size := range sizes {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(string(b), "\n"))
			if err != nil || len(raw) != size || first[name] != "" && first[name] != string(b) {
				t.Fatalf("%s: %d bytes, %v", name, len(raw), err)
			}
			first[name] = string(b)
			if err := os.WriteFile(name+".bin", raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if code, _, stderr := agentctl(t, "policy", "id-block", "check", "--block", "block.bin", "--auth", "auth.bin"); code != exitOK {
		t.Error(stderr)
	}
}

// TestPolicyIDBlockRefuses: keys of another kind, blocks that launch nothing and signatures
// that are wrong are refused, and nothing is written.
func TestPolicyIDBlockRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	idKeys(t, "id.pem", "author.pem")
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	write(t, ".", map[string]string{"p256.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "text": "hello\n"})
	refused := func(code int, want, args string) {
		t.Helper()
		line := strings.Fields("policy id-block " + strings.ReplaceAll(args, "MEASUREMENT", measurementText))
		if got, out, stderr := agentctl(t, line...); got != code || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %q, %q, want %d and %q", args, got, out, stderr, code, want)
		}
	}
	const files = " --block none --auth none"
	refused(exitMisuse, "--measurement is missing", "create --id-key id.pem"+files)
	refused(exitMisuse, "--id-key is missing", "create --measurement MEASUREMENT"+files)
	refused(exitMisuse, "--block is missing", "create --measurement MEASUREMENT --id-key id.pem --auth none")
	refused(exitMisuse, "--auth is missing", "create --measurement MEASUREMENT --id-key id.pem --block none")
	refused(exitMisuse, "standard output has the rule", "create --measurement MEASUREMENT --id-key id.pem --block - --auth none")
	refused(exitMisuse, "standard output has the rule", "create --measurement MEASUREMENT --id-key id.pem --block none --auth -")
	refused(exitMisuse, "--measurement: 2 bytes, want 48", "create --measurement 4d4d --id-key id.pem"+files)
	refused(exitMisuse, "--family-id: 2 bytes, want 16", "create --measurement MEASUREMENT --id-key id.pem --family-id 0001"+files)
	refused(exitMisuse, "--image-id: 2 bytes, want 16", "create --measurement MEASUREMENT --id-key id.pem --image-id 0001"+files)
	refused(exitMisuse, "of zeros", "create --id-key id.pem --measurement "+strings.Repeat("00", 48)+files)
	refused(exitMisuse, "bit 17 must be one", "create --measurement MEASUREMENT --id-key id.pem --guest-policy 0"+files)
	refused(exitMisuse, "ID key: firmware of SEV-SNP knows no other", "create --measurement MEASUREMENT --id-key p256.pem"+files)
	refused(exitMisuse, "author key: firmware of SEV-SNP knows no other", "create --measurement MEASUREMENT --id-key id.pem --author-key p256.pem"+files)
	refused(exitMisuse, "want one private key", "create --measurement MEASUREMENT --id-key text"+files)
	refused(exitMisuse, "no such file", "create --measurement MEASUREMENT --id-key id.pem --author-key missing"+files)
	if _, err := os.Stat("none"); err == nil {
		t.Error("a file was written")
	}
	for name, key := range map[string]string{"a": "id.pem", "b": "author.pem"} {
		for m, text := range map[string]string{"": measurementText, "2": strings.Repeat("4e", 48)} {
			if code, _, stderr := agentctl(t, "policy", "id-block", "create", "--measurement", text, "--id-key", key, "--block", name+m+".block", "--auth", name+m+".auth"); code != exitOK {
				t.Fatal(stderr)
			}
		}
	}
	refused(exitMisuse, "--block is missing", "check --auth a.auth")
	refused(exitMisuse, "--auth is missing", "check --block a.block")
	refused(exitMisuse, "a.auth: too large", "check --block a.auth --auth a.auth")
	refused(exitMisuse, "text: ID block of 6 bytes", "check --block text --auth a.auth")
	refused(exitMisuse, "text: ID authentication information of 6 bytes", "check --block a.block --auth text")
	refused(exitBinding, "the ID key did not sign this ID block", "check --block a2.block --auth a.auth")
	refused(exitBinding, "the ID key did not sign this ID block", "check --block a.block --auth b2.auth")
	refused(exitPolicy, "is over launch measurement 4d4d", "check --block a.block --auth b.auth --measurement "+strings.Repeat("4e", 48))
	refused(exitMisuse, "--measurement: 1 bytes", "check --block a.block --auth a.auth --measurement 4d")
}
