// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// replacing is a machine whose TPM was cleared, so that its stored key does not load.
type replacing struct {
	t      *testing.T
	faults durabletest.Faults
	tpm    *swtpm.TPM
	disk   *durabletest.Disk
	old    []byte // what is stored
	name   keys.Name
}

func newReplacing(t *testing.T, s *swtpm.TPM, old []byte, name keys.Name) *replacing {
	t.Helper()
	clearTPM(t, s)
	r := &replacing{t: t, tpm: s, old: old, name: name}
	r.disk = durabletest.NewDisk(&r.faults)
	r.disk.Set(akFile, old)
	return r
}

func clearTPM(t *testing.T, s transport.TPM) {
	t.Helper()
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

// agent is an agent that has come to the step that looks for its key.
type agent struct {
	*Enroller
	device *tpm.Device
}

func (r *replacing) start() agent {
	log := slog.New(slog.DiscardHandler)
	s := startup.New(log)
	e := New(Config{Supervisor: s, State: startup.NewPart[*durable.Dir](s), Device: startup.NewPart[*tpm.Device](s),
		TPM: config.Default().TPM, Folder: config.Default().State.Folder, Log: log})
	device := tpm.New(&wire{faults: &r.faults, tpm: r.tpm}, tpm.Options{})
	e.c.State.Set(r.disk.Open())
	e.c.Device.Set(device)
	return agent{e, device}
}

// used is the name of the key in use.
func (a agent) used() keys.Name {
	ak, _ := a.Key()
	return ak.Name()
}

// wire is the connection to the TPM. Each command is a step.
type wire struct {
	faults *durabletest.Faults
	tpm    *swtpm.TPM
	answer bytes.Buffer
}

// errCode has a broken command answered with an error of the TPM; every other breaks
// the connection.
var errCode = errors.New("answer with a code")

func (w *wire) Write(command []byte) (n int, err error) {
	defer func() {
		if recover() != nil {
			err = io.ErrClosedPipe // the process has ended: no process sees the answer
		}
	}()
	err = w.faults.Step(fmt.Sprintf("TPM command 0x%x", swtpm.CommandCode(command)), func() error {
		rsp, err := w.tpm.Send(command)
		w.answer.Write(rsp)
		return err
	}, nil)
	if errors.Is(err, errCode) {
		w.answer.Reset()
		w.answer.Write(swtpm.Response(tpm2.TPMRCMemory))
		err = nil
	}
	return len(command), err
}

func (w *wire) Read(b []byte) (int, error) { return w.answer.Read(b) }
func (w *wire) Close() error               { return nil }

// replace runs the command in a process that may end in it, and ends that. It reports
// the name of the new key, nil if it failed.
func (r *replacing) replace(d agent) (name keys.Name, err error) {
	defer d.device.Close()
	return r.try(d)
}

func (r *replacing) try(d agent) (name keys.Name, err error) {
	defer func() {
		if k, ok := recover().(durabletest.Killed); ok {
			name, err = nil, fmt.Errorf("killed at %s", k.Step)
		}
	}()
	var out api.Replaced
	_, err = d.c.Supervisor.Exclusive(r.t.Context(), func() (err error) {
		out, err = d.Enroller.replace(r.t.Context())
		return err
	})
	return keys.Name(out.New), err
}

// kept reports whether the old key is in a file of its own, and holds that it is there
// once at most and that nothing else is called so.
func (r *replacing) kept() bool {
	kept := r.disk.Get("ak-replaced-1.json")
	if kept != nil && !bytes.Equal(kept, r.old) {
		r.t.Errorf("the backup holds %d bytes that are not the old key", len(kept))
	}
	if r.disk.Get("ak-replaced-2.json") != nil {
		r.t.Error("the old key was kept twice")
	}
	return kept != nil
}

// after is what a healthy start and an operator who does what it says make of it.
func (r *replacing) after(said keys.Name) (state string) {
	t := r.t
	d := r.start()
	err := d.Provision(t.Context())
	stored := r.disk.Get(akFile)
	switch {
	case err == nil: // the new key, and the old one on disk too
		state = "new"
		blob, parse := tpmkeys.ParseBlob(stored)
		if parse != nil || !blob.Name().Equal(d.used()) || blob.Name().Equal(r.name) {
			t.Errorf("a key is in use that is not the stored new one: %v", parse)
		}
		if said != nil && !d.used().Equal(said) {
			t.Errorf("key %s is in use, the operator was told %s", d.used(), said)
		}
		if !r.kept() {
			t.Error("there is a new key, and the old one is gone")
		}
	case errors.Is(err, ErrUnusable): // the old key, and what to do
		state = "old"
		if said != nil || !bytes.Equal(stored, r.old) || !strings.Contains(err.Error(), "agentctl key replace-ak") {
			t.Errorf("told of new key %s; stored: %d bytes; %v", said, len(stored), err)
		}
		r.kept()
		d.device.Close()
		d = r.start()
		if said, err = r.replace(d); err != nil || said == nil {
			t.Errorf("replaced after all: %v", err)
			return state
		}
		if again := r.after(said); again != "new" {
			t.Errorf("replaced after all, and the next start finds the %s key", again)
		}
		return state
	default:
		t.Errorf("healthy start: %v", err)
		return "neither"
	}
	// What broke off has left nothing in the TPM but the key that is in use.
	if n := transients(t, r.tpm); n != 1 {
		t.Errorf("%d transient objects in the TPM, want the key alone", n)
	}
	d.device.Close()
	return state
}

func transients(t *testing.T, s transport.TPM) int {
	t.Helper()
	return len(swtpm.Handles(t, s, tpm2.TPMHTTransient))
}

// storedKey is a TPM with a key that is stored.
func storedKey(t *testing.T) (s *swtpm.TPM, stored []byte, name keys.Name) {
	t.Helper()
	s = swtpm.Start(t)
	ak, err := tpmkeys.Provision(s, nil, tpmkeys.Auths{})
	if err != nil {
		t.Fatal(err)
	}
	stored, err = ak.Blob().Encode()
	if err = errors.Join(err, ak.Flush(s)); err != nil {
		t.Fatal(err)
	}
	return s, stored, ak.Name()
}

// TestReplaceAKCrashMatrix breaks every system call on the state folder and every
// command to the TPM of a replacement, each before and after it took effect, and looks
// at what the next start finds: the old key with what to do about it, or the new one
// with the old one too, and never neither. Cases 24, 26 and 36.
func TestReplaceAKCrashMatrix(t *testing.T) {
	s, old, name := storedKey(t)
	r := newReplacing(t, s, old, name)
	r.faults.Break(0, durabletest.None, nil)
	if said, err := r.replace(r.start()); err != nil || r.after(said) != "new" {
		t.Fatalf("nothing broken: %v", err)
	}
	r = newReplacing(t, s, old, name)
	r.faults.Break(0, durabletest.None, nil)
	if _, err := r.replace(r.start()); err != nil {
		t.Fatal(err)
	}
	count, _ := r.faults.Steps()
	if count < 30 {
		t.Errorf("a replacement has %d steps: it does not do what it should", count)
	}
	stride := 1
	if testing.Short() {
		stride = 7
	}
	cases, found, steps := 0, map[string]int{}, make([]string, count+1)
	for _, mode := range durabletest.Modes {
		errs := []error{errCode, syscall.EIO}
		if mode.Kills() {
			errs = errs[1:]
		}
		for _, e := range errs {
			for _, cut := range []bool{false, true} {
				for k := 1; k <= count; k += stride {
					if torn := mode == durabletest.FailTorn || mode == durabletest.KillTorn; torn && !strings.HasPrefix(steps[k], "write ") {
						continue // only writes tear: it would be the same as before
					}
					cases++
					r := newReplacing(t, s, old, name)
					r.faults.Break(k, mode, e)
					said, err := r.replace(r.start())
					_, broken := r.faults.Steps()
					steps[k] = broken
					r.faults.Break(0, durabletest.None, nil)
					if r.disk.Kill(); cut {
						r.disk.PowerCut()
					}
					found[r.after(said)]++
					if t.Failed() {
						t.Fatalf("%v at step %d (%s) with %v, power cut %v: %v", mode, k, broken, e, cut, err)
					}
				}
			}
		}
	}
	t.Logf("N=%d (%d steps, stride %d): %v", cases, count, stride, found)
	if found["old"] == 0 || found["new"] == 0 {
		t.Errorf("found %v: the matrix does not reach both", found)
	}
}

// TestReplaceAKAgain: what failed is done when it is asked for once more in the same
// process, or was done already, and leaves nothing in the TPM's few slots.
func TestReplaceAKAgain(t *testing.T) {
	s, old, name := storedKey(t)
	for _, mode := range []durabletest.Mode{durabletest.FailBefore, durabletest.FailAfter} {
		for k := 1; ; k++ {
			r := newReplacing(t, s, old, name)
			r.faults.Break(k, mode, errCode)
			d := r.start()
			_, _ = r.try(d) // with or without an error: the tries below must succeed
			n, broken := r.faults.Steps()
			if n < k {
				break // every step was broken
			}
			flush := fmt.Sprintf("TPM command 0x%x", tpm2.TPMCCFlushContext)
			if mode == durabletest.FailAfter && strings.HasPrefix(broken, "TPM") || broken == flush {
				d.device.Close()
				continue // what a TPM does not let go of, or does not tell of, it keeps until the next start
			}
			r.faults.Break(0, durabletest.None, nil)
			for range 4 { // as often as finds all slots taken
				if _, err := r.try(d); err != nil && !isNothingToDo(err) {
					t.Fatalf("%v at step %d (%s): again: %v", mode, k, broken, err)
				}
			}
			if err := d.Provision(t.Context()); err != nil || d.used().Equal(name) || !r.kept() {
				t.Errorf("%v at step %d (%s): %v", mode, k, broken, err)
			}
			if n := transients(t, s); n != 1 {
				t.Errorf("%v at step %d (%s): %d transient objects in the TPM, want the key alone", mode, k, broken, n)
			}
			d.device.Close()
		}
	}
}

func isNothingToDo(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code == api.CodeNothingToDo
}
