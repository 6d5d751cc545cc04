// SPDX-License-Identifier: Apache-2.0

package soft_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform"
	device "github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// keyMessage is a raw MSG_KEY_REQ: all that a guest could ask, sensible or not.
type keyMessage struct {
	root   uint32
	fields uint64
	vmpl   uint32
	svn    uint32
	tcb    snp.TCB
}

func ask(t *testing.T, p *soft.Platform, k keyMessage) (status uint32, key []byte) {
	t.Helper()
	m := &device.Message{Command: device.GetDerivedKey, Request: make([]byte, 32), Response: make([]byte, 64)}
	binary.LittleEndian.PutUint32(m.Request[0:], k.root)
	binary.LittleEndian.PutUint64(m.Request[8:], k.fields)
	binary.LittleEndian.PutUint32(m.Request[16:], k.vmpl)
	binary.LittleEndian.PutUint32(m.Request[20:], k.svn)
	binary.LittleEndian.PutUint64(m.Request[24:], uint64(k.tcb))
	if x, err := p.Transport().Exchange(m); x != 0 || err != nil {
		t.Fatalf("exchange: 0x%x, %v", x, err)
	}
	return binary.LittleEndian.Uint32(m.Response), m.Response[32:]
}

// A derived key depends on exactly the fields that are selected: for every
// selection, changing a field changes the key if and only if it is selected.
func TestDerivedKeyDependsOnSelectedFields(t *testing.T) {
	secret := bytes.Repeat([]byte{1}, 32)
	base := soft.Options{ChipSecret: secret, GuestSVN: 5}
	changes := []struct {
		name   string
		change func(o *soft.Options, k *keyMessage)
	}{
		{"policy", func(o *soft.Options, _ *keyMessage) { o.Policy = snp.PolicyReservedOne | snp.PolicyDebug }},
		{"image id", func(o *soft.Options, _ *keyMessage) { o.ImageID[0] = 1 }},
		{"family id", func(o *soft.Options, _ *keyMessage) { o.FamilyID[0] = 1 }},
		{"measurement", func(o *soft.Options, _ *keyMessage) { o.Measurement[0] = 1 }},
		{"guest svn", func(_ *soft.Options, k *keyMessage) { k.svn = 4 }},
		{"TCB", func(_ *soft.Options, k *keyMessage) { k.tcb = 2 }},
	}
	plain, machines := launch(t, base), map[string]*soft.Platform{} // by what is changed: each costs a certificate
	for fields := uint64(0); fields < 64; fields++ {
		k := keyMessage{root: 1 << 1, fields: fields, svn: 5, tcb: 1}
		_, want := ask(t, plain, k)
		for bit, c := range changes {
			o, changed := base, k
			c.change(&o, &changed)
			p := plain
			if o.Policy != base.Policy || o.ImageID != base.ImageID || o.FamilyID != base.FamilyID || o.Measurement != base.Measurement {
				if p = machines[c.name]; p == nil {
					p = launch(t, o)
					machines[c.name] = p
				}
			}
			_, got := ask(t, p, changed)
			if selected := fields>>bit&1 == 1; bytes.Equal(got, want) == selected {
				t.Errorf("fields %06b, %s changed: same key %t", fields, c.name, !selected)
			}
		}
		for name, other := range map[string]keyMessage{
			"VMPL":     {root: k.root, fields: fields, svn: 5, tcb: 1, vmpl: 1},
			"root key": {root: 1, fields: fields, svn: 5, tcb: 1},
		} {
			if _, got := ask(t, plain, other); bytes.Equal(got, want) {
				t.Errorf("fields %06b: %s makes no difference", fields, name)
			}
		}
	}
	if _, got := ask(t, launch(t, soft.Options{GuestSVN: 5}), keyMessage{root: 1 << 1}); bytes.Equal(got, second(ask(t, plain, keyMessage{root: 1 << 1}))) {
		t.Error("another chip derives the same key")
	}
}

func second(_ uint32, key []byte) []byte { return key }

// What the firmware does not derive.
func TestDerivedKeyInvalidParameters(t *testing.T) {
	p := launch(t, soft.Options{VMPL: 1, GuestSVN: 5})
	committed := p.Options().CommittedTCB
	for _, c := range []struct {
		name string
		k    keyMessage
		want uint32
	}{
		{"good", keyMessage{root: 2, vmpl: 1, svn: 5, tcb: committed}, 0},
		{"less trusted VMPL", keyMessage{root: 2, vmpl: 3}, 0},
		{"more trusted VMPL", keyMessage{root: 2, vmpl: 0}, 0x16},
		{"VMPL 4", keyMessage{root: 2, vmpl: 4}, 0x16},
		{"svn above the launched", keyMessage{root: 2, vmpl: 1, svn: 6}, 0x16},
		{"TCB above the committed, one component", keyMessage{root: 2, vmpl: 1, tcb: committed + 1<<8}, 0x16},
		{"reserved field", keyMessage{root: 2, vmpl: 1, fields: 64}, 0x16},
		{"reserved key select", keyMessage{root: 6, vmpl: 1}, 0x16},
		{"VLEK if none is loaded", keyMessage{root: 4, vmpl: 1}, 0x16},
	} {
		if got, _ := ask(t, p, c.k); got != c.want {
			t.Errorf("%s: status 0x%x, want 0x%x", c.name, got, c.want)
		}
	}
}

// Key select 0 is the VLEK's if one is loaded, and a VLEK is a cloud's: two
// chips derive the same key from it. What the agent asks for is the chip's own.
func TestKeySelectTrap(t *testing.T) {
	a, b := launch(t, soft.Options{Signer: snp.SignerVLEK}), launch(t, soft.Options{Signer: snp.SignerVLEK})
	trap := func(p *soft.Platform) []byte { return second(ask(t, p, keyMessage{})) }
	if !bytes.Equal(trap(a), trap(b)) {
		t.Error("key select 0 is not the VLEK's: the trap that the agent avoids is not there")
	}
	r := sealing.TCBOf(1)
	ka, err := a.DeriveKey(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := b.DeriveKey(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if ka.Equal(kb) {
		t.Error("two chips derive the same key")
	}
}

// A folder keeps root and chip: after a restart old certificates and keys hold,
// and only what belongs to the launch is new.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "platform")
	start := func(same bool) (root, chip, reportID []byte, key *secret.Secret) {
		p := launch(t, soft.Options{Directory: dir, SameLaunch: same})
		root, err := p.RootPEM()
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Report(context.Background(), platform.Fixed(data("x")))
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := appraise(got.Bytes, got.Certificates, testRoots(t, p), p.Options().Now())
		if err != nil {
			t.Fatal(err)
		}
		if key, err = p.DeriveKey(context.Background(), sealing.TCBOf(1)); err != nil {
			t.Fatal(err)
		}
		return root, r.ChipID[:], r.ReportID[:], key
	}
	root1, chip1, id1, key1 := start(false)
	root2, chip2, id2, key2 := start(false)
	_, _, same, _ := start(true)
	if !bytes.Equal(root1, root2) || !bytes.Equal(chip1, chip2) || !key1.Equal(key2) {
		t.Error("root, chip or derived key changed over a restart")
	}
	if bytes.Equal(id1, id2) {
		t.Error("two launches share a report id")
	}
	if !bytes.Equal(id2, same) {
		t.Error("a restart of the agent is another launch")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		s, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if s.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), s.Mode())
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "chip"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := soft.New(soft.Options{Directory: dir}); err == nil {
		t.Error("a broken chip is accepted")
	}
}

// case 75: a derived key does not print and has no encoding.
func TestDerivedKeyDoesNotLeak(t *testing.T) {
	k, err := launch(t, soft.Options{}).DeriveKey(t.Context(), sealing.TCBOf(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		if got := fmt.Sprintf(verb, k); got != "[secret]" {
			t.Errorf("%s prints %s", verb, got)
		}
		err := k.Use(func(b []byte) error {
			got := strings.ToLower(fmt.Sprintf(verb, struct{ K *secret.Secret }{k}))
			if strings.Contains(got, fmt.Sprintf("%x", b[:2])) || strings.Contains(got, fmt.Sprintf("%d %d", b[0], b[1])) {
				t.Errorf("%s in a struct prints %s", verb, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.MarshalText(); err == nil {
		t.Error("a derived key has an encoding")
	}
}

// TestTakeKey: what a firmware answers is a key of 32 bytes that are not all zero, and does
// not stay in the answer.
func TestTakeKey(t *testing.T) {
	b := bytes.Repeat([]byte{0xAB}, 32)
	if k, err := platform.TakeKey(b); err != nil || k.Len() != 32 || k.IsZero() || !bytes.Equal(b, make([]byte, 32)) {
		t.Errorf("%v, left % x", err, b)
	}
	if k, err := platform.TakeKey(make([]byte, 32)); k != nil || !errors.Is(err, platform.ErrZeroKey) {
		t.Errorf("all zero: %v", err)
	}
	for _, n := range []int{0, 31, 33} {
		if k, err := platform.TakeKey(bytes.Repeat([]byte{1}, n)); k != nil || !errors.Is(err, platform.ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
