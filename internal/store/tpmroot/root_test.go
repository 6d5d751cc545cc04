// SPDX-License-Identifier: Apache-2.0

package tpmroot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// direct gives each sequence the TPM itself: a test has no second user.
type direct struct{ transport.TPM }

func (d direct) Do(_ context.Context, f func(transport.TPM) error) error { return f(d.TPM) }

func start(t *testing.T) (*swtpm.TPM, *tpmroot.TPM) {
	dev := swtpm.Start(t)
	return dev, &tpmroot.TPM{Device: direct{dev}}
}

// TestOverTheDaemonsDevice: the same over the device that serialises commands.
func TestOverTheDaemonsDevice(t *testing.T) {
	dev := swtpm.Start(t)
	r := &tpmroot.TPM{Device: dev.Device(tpm.Options{})}
	record, want := seal(t, r)
	plan, err := r.PlanCounter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.DefineCounter(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	dev.Reboot()
	got, err := r.Unseal(t.Context(), record)
	if err != nil || !got.Equal(want) {
		t.Fatalf("after a reboot: %v, %v", got, err)
	}
	if n, err := r.Increment(t.Context(), plan); err != nil || n != first+1 {
		t.Fatalf("after a reboot: %d, %v, want %d", n, err, first+1)
	}
}

func seal(t *testing.T, r *tpmroot.TPM) (record []byte, s *secret.Secret) {
	t.Helper()
	record, id, s, err := r.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(id) != 34 {
		t.Fatalf("name of %d bytes, want 34", len(id))
	}
	return record, s
}

// edit changes one member of a record.
func edit(t *testing.T, record []byte, member string, change func([]byte) []byte) []byte {
	t.Helper()
	var doc map[string]any
	if err := strictjson.Decode(record, 1<<20, &doc); err != nil {
		t.Fatal(err)
	}
	var b evidence.Bytes
	if err := b.UnmarshalText([]byte(doc[member].(string))); err != nil {
		t.Fatal(err)
	}
	text, err := evidence.Bytes(change(b)).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	doc[member] = string(text)
	out, err := strictjson.Encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 2
	return b
}

func clearTPM(t *testing.T, dev transport.TPM) {
	t.Helper()
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecretOutlivesReboot(t *testing.T) {
	dev, r := start(t)
	record, want := seal(t, r)
	for _, step := range []func(){func() {}, dev.Reboot, dev.PowerCut} {
		step()
		got, err := r.Unseal(t.Context(), record)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(want) {
			t.Fatal("the TPM gives another secret back")
		}
		got.Wipe()
	}
}

// TestSecretRefused: why a record does not open, each told apart.
func TestSecretRefused(t *testing.T) {
	dev, r := start(t)
	record, _ := seal(t, r)
	_, other := start(t)
	tests := []struct {
		name   string
		tpm    *tpmroot.TPM
		record []byte
		before func()
		want   api.Code
	}{
		{"not a record", r, []byte("{}"), nil, api.CodeTPMSecretDamaged},
		{"private part changed", r, edit(t, record, "private", flip), nil, api.CodeTPMSecretDamaged},
		{"authorization changed", r, edit(t, record, "auth", func(b []byte) []byte { b = bytes.Clone(b); b[0] = b[0]%255 + 1; return b }), nil, api.CodeTPMSecretDamaged},
		{"authorization with a zero byte", r, edit(t, record, "auth", func(b []byte) []byte { b = bytes.Clone(b); b[7] = 0; return b }), nil, api.CodeTPMSecretDamaged},
		{"another TPM", other, record, nil, api.CodeOtherTPM},
		{"TPM cleared", r, record, func() { clearTPM(t, dev) }, api.CodeTPMCleared},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != nil {
				tt.before()
			}
			s, err := tt.tpm.Unseal(t.Context(), tt.record)
			if !errors.Is(err, tt.want) || s != nil {
				t.Fatalf("got %v and %v, want code %s", s, err, tt.want)
			}
		})
	}
}

// TestFailingTPMIsNoVerdict: an error of the moment says nothing about the record.
func TestFailingTPMIsNoVerdict(t *testing.T) {
	_, r := start(t)
	record, _ := seal(t, r)
	broken := &tpmroot.TPM{Device: failing{}}
	if _, err := broken.Unseal(t.Context(), record); err == nil || sealing.CodeOf(err) != "" {
		t.Errorf("got %v, want an error without a code", err)
	}
}

type failing struct{}

func (failing) Do(context.Context, func(transport.TPM) error) error { return errors.New("TPM hangs") }

func TestCounter(t *testing.T) {
	dev, r := start(t)
	ctx := t.Context()
	plan, err := r.PlanCounter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadCounter(ctx, plan); !errors.Is(err, api.CodeCounterLost) {
		t.Fatalf("before it is defined: %v, want %s", err, api.CodeCounterLost)
	}
	first, err := r.DefineCounter(ctx, plan)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.DefineCounter(ctx, plan); err != nil || again != first {
		t.Fatalf("defined again: %d, %v, want %d", again, err, first)
	}
	for i := range uint64(3) {
		if got, err := r.Increment(ctx, plan); err != nil || got != first+i+1 {
			t.Fatalf("increment: %d, %v, want %d", got, err, first+i+1)
		}
	}
	dev.Reboot()
	if got, err := r.ReadCounter(ctx, plan); err != nil || got != first+3 {
		t.Fatalf("after a reboot: %d, %v, want %d", got, err, first+3)
	}
	if err := r.RemoveCounter(ctx, plan); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Increment(ctx, plan); !errors.Is(err, api.CodeCounterLost) {
		t.Fatalf("after it was removed: %v, want %s", err, api.CodeCounterLost)
	}
	// Defined again, it continues above everything that was counted.
	if got, err := r.DefineCounter(ctx, plan); err != nil || got <= first+3 {
		t.Fatalf("defined after removal: %d, %v, want more than %d", got, err, first+3)
	}
	clearTPM(t, dev)
	if _, err := r.ReadCounter(ctx, plan); !errors.Is(err, api.CodeCounterLost) {
		t.Fatalf("after the TPM was cleared: %v, want %s", err, api.CodeCounterLost)
	}
}

// TestInterruptedDefinition: a counter that was defined and never counted is finished.
func TestInterruptedDefinition(t *testing.T) {
	dev, _ := start(t)
	n := 0
	r := &tpmroot.TPM{Device: direct{sendFunc(func(command []byte) ([]byte, error) {
		if swtpm.CommandCode(command) == tpm2.TPMCCNVIncrement {
			if n++; n == 1 {
				return nil, errors.New("power cut")
			}
		}
		return dev.Send(command)
	})}}
	plan, err := r.PlanCounter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.DefineCounter(t.Context(), plan); err == nil {
		t.Fatal("the fault did not happen")
	}
	dev.PowerCut() // and with it the session that was left open
	if _, err := r.DefineCounter(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Increment(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
}

type sendFunc func([]byte) ([]byte, error)

func (f sendFunc) Send(b []byte) ([]byte, error) { return f(b) }

// TestSomebodyElsesCounter: an index with another authorization is not ours.
func TestSomebodyElsesCounter(t *testing.T) {
	_, r := start(t)
	ctx := t.Context()
	plan, err := r.PlanCounter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.DefineCounter(ctx, plan); err != nil {
		t.Fatal(err)
	}
	forged := edit(t, plan, "auth", func(b []byte) []byte { b = bytes.Clone(b); b[0] = b[0]%255 + 1; return b })
	for name, f := range map[string]func() error{
		"read":      func() error { _, err := r.ReadCounter(ctx, forged); return err },
		"increment": func() error { _, err := r.Increment(ctx, forged); return err },
		"define":    func() error { _, err := r.DefineCounter(ctx, forged); return err },
		"remove":    func() error { return r.RemoveCounter(ctx, forged) },
	} {
		if err := f(); !errors.Is(err, api.CodeCounterLost) {
			t.Errorf("%s: %v, want %s", name, err, api.CodeCounterLost)
		}
	}
	if _, err := r.ReadCounter(ctx, plan); err != nil {
		t.Errorf("the owner of the counter: %v", err)
	}
}

// TestNothingTravelsInTheClear: neither secret nor authorization values pass between
// here and the TPM, and no slot of the TPM stays taken.
func TestNothingTravelsInTheClear(t *testing.T) {
	dev, _ := start(t)
	var wire bytes.Buffer
	r := &tpmroot.TPM{Device: direct{sendFunc(func(command []byte) ([]byte, error) {
		rsp, err := dev.Send(command)
		wire.Write(command)
		wire.Write(rsp)
		return rsp, err
	})}}
	record, s := seal(t, r)
	got, err := r.Unseal(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Wipe()
	plan, err := r.PlanCounter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.DefineCounter(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	look := func(what string, b []byte) {
		if bytes.Contains(wire.Bytes(), b) {
			t.Errorf("%s is on the wire in the clear", what)
		}
	}
	_ = s.Use(func(b []byte) error { look("the secret", b); return nil })
	edit(t, record, "auth", func(b []byte) []byte { look("the secret's authorization", b); return b })
	edit(t, plan, "auth", func(b []byte) []byte { look("the counter's authorization", b); return b })
	edit(t, record, "public", func(b []byte) []byte {
		if !bytes.Contains(wire.Bytes(), b) {
			t.Error("not even the public area is on the wire: the test sees nothing")
		}
		return b
	})

	if left := swtpm.Handles(t, dev, tpm2.TPMHTTransient); len(left) > 0 {
		t.Errorf("transient objects are left: %x", left)
	}
}

// TestOwnerAuthorization checks that a TPM that has an owner works with the owner's
// authorization value and says so without it.
func TestOwnerAuthorization(t *testing.T) {
	dev, _ := start(t)
	auth := []byte{7, 0, 9}
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: auth},
	}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
	without := &tpmroot.TPM{Device: direct{dev}}
	with := &tpmroot.TPM{Device: direct{dev}, Auths: tpmkeys.Auths{Owner: auth}}
	var refused *tpmkeys.AuthError
	if _, _, _, err := without.Seal(t.Context()); !errors.As(err, &refused) {
		t.Errorf("without: %v, want an AuthError", err)
	}
	seal(t, with)
	plan, err := with.PlanCounter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := without.DefineCounter(t.Context(), plan); !errors.As(err, &refused) {
		t.Errorf("without: %v, want an AuthError", err)
	}
	if _, err := with.DefineCounter(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if err := with.RemoveCounter(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", with, *with, with); strings.Contains(text, fmt.Sprint(auth)) {
		t.Errorf("the authorization value prints: %s", text)
	}
}
