// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/keys"
)

// hexBytes are bytes as agentctl prints them.
type hexBytes []byte

func (b *hexBytes) UnmarshalText(s []byte) (err error) {
	*b, err = hex.DecodeString(string(s))
	return err
}

// certified is what "agentctl key certify --json" prints.
type certified struct {
	Public, PublicKey, Attest, Signature, AKPublic hexBytes
	Version                                        uint32
}

// certify has a key of the app of unit certified, and checks that as a relying party does.
func (a *agent) certify(t *testing.T, unit, key string, data []byte) (c certified, p *keys.Public) {
	t.Helper()
	out, err := a.run(unit, "key", "certify", "--json", "--key", key, "--data", hex.EncodeToString(data))
	if err != nil {
		t.Errorf("%v\n%s", err, out)
		return c, nil
	}
	must(t, json.Unmarshal(out, &c))
	p, err = keys.Certification{Public: c.Public, Attest: c.Attest, Signature: c.Signature}.Check(c.AKPublic, data)
	if err != nil {
		t.Error(err)
	}
	return c, p
}

// TestKeysInTheTPM: case 151. A key is certified by the AK that evidence names, and is the same after restarts of
// agent and machine. Label, version and application tell keys apart, and many ask at once.
func TestKeysInTheTPM(t *testing.T) {
	a := start(t)
	data := bytes.Repeat([]byte{5}, 32)
	first, p := a.certify(t, "billing.service", "acme", data)
	ak, err := a.Client().AK(t.Context())
	must(t, err)
	if !bytes.Equal(ak.Public, first.AKPublic) {
		t.Error("certified by another key than the one that is enrolled")
	}
	out, err := a.run("billing.service", "key", "public", "--json", "--key", "acme:tpm-ecdsa-p256")
	must(t, err)
	if !bytes.Contains(out, []byte(hex.EncodeToString(first.PublicKey))) {
		t.Errorf("certified is %x, the key is %s", first.PublicKey, out)
	}
	name := p.Name().String()
	seen := map[string]string{name: "acme"}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, label := range []string{"acm", "acme2", "e", "e ", "acme", "acme"} {
		all.Go(func() {
			_, p := a.certify(t, "billing.service", label, data)
			if p == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if other, ok := seen[p.Name().String()]; ok && other != label {
				t.Errorf("%s has the key of %s", label, other)
			}
			seen[p.Name().String()] = label
		})
	}
	all.Wait()
	if len(seen) != 5 {
		t.Errorf("%d keys: %v", len(seen), seen)
	}
	a.restart(t)
	if _, p := a.certify(t, "billing.service", "acme", data); p == nil || p.Name().String() != name {
		t.Error("another key after a restart")
	}
	if out, err := a.run("", "key", "rotate", "billing"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c, p := a.certify(t, "billing.service", "acme", data)
	if p == nil || p.Name().String() == name || c.Version != 2 {
		t.Errorf("version %d has the key of version 1", c.Version)
	}
	if _, p := a.certify(t, "billing.service", "acme:tpm-ecdsa-p256:1", data); p == nil || p.Name().String() != name {
		t.Error("version 1 has another key than before")
	}
	for range 2 { // the second time from the saved context
		if out, err := a.run("billing.service", "key", "certify", "--key", "acme:tpm-ecdsa-p256:9", "--data", "00"); err == nil || !bytes.Contains(out, []byte(api.CodeNotFound)) {
			t.Errorf("a version that there is not: %v\n%s", err, out)
		}
	}
	if out, err := a.run("", "key", "retire", "billing", "1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := a.run("billing.service", "key", "certify", "--key", "acme:tpm-ecdsa-p256:1", "--data", "00"); err == nil || !bytes.Contains(out, []byte(api.CodeNotFound)) {
		t.Errorf("a version that root retired: %v\n%s", err, out)
	}
	must(t, a.Off()) // the TPM starts again, and the machine with it
	a.boot(t)
	if again, _ := a.certify(t, "billing.service", "acme", data); !bytes.Equal(again.Public, c.Public) {
		t.Error("another key after a reboot")
	}
}
