// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/sealing"
)

// double answers the system call as Linux does: it reads the 32-byte structure at
// arg, follows the pointers in it, and writes where they lead.
func double(t *testing.T, machine snp.Transport) func(snp.Command, unsafe.Pointer) error {
	return func(command snp.Command, arg unsafe.Pointer) error {
		runtime.GC() // what nothing keeps would be gone now
		outer := unsafe.Slice((*byte)(arg), 32)
		if outer[0] != 1 || !bytes.Equal(outer[1:8], make([]byte, 7)) {
			t.Errorf("message version and padding % x", outer[:8])
		}
		request, response := pointer(arg, 8), pointer(arg, 16)
		m := &snp.Message{Command: command}
		sizes := map[snp.Command][2]int{snp.GetReport: {96, 4000}, snp.GetDerivedKey: {32, 64}, snp.GetExtendedReport: {96, 4000}}[command]
		m.Request = unsafe.Slice((*byte)(request), sizes[0])
		m.Response = unsafe.Slice((*byte)(response), sizes[1])
		length := (*uint32)(nil)
		if command == snp.GetExtendedReport {
			length = (*uint32)(unsafe.Add(request, 104))
			if *length%4096 != 0 {
				return syscall.EINVAL
			}
			m.Table = unsafe.Slice((*byte)(pointer(request, 96)), *length)
		}
		exitInfo, err := machine.Exchange(m)
		binary.NativeEndian.PutUint64(outer[24:], exitInfo)
		if length != nil && exitInfo == 1<<32 {
			*length = m.TableSize
		}
		return err
	}
}

func pointer(base unsafe.Pointer, offset int) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Add(base, offset))
}

// The structures of the kernel's interface carry every kind of request.
func TestKernelStructures(t *testing.T) {
	p := machine(t, soft.Options{VMPL: 2})
	for _, faults := range []soft.Faults{{}, {GrownTable: true}, {HugeTable: true}} {
		p.SetFaults(faults)
		d, err := snp.New(snp.KernelOver(double(t, p.Transport())), snp.Options{VMPL: 2})
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Report(context.Background(), platform.Fixed([64]byte{1, 2, 3}))
		if err != nil {
			t.Fatalf("%+v: %v", faults, err)
		}
		if want := 3; faults.HugeTable == (len(got.Certificates) == want) || faults.HugeTable != (got.TableError != nil) {
			t.Errorf("%+v: %d certificates, table error %v", faults, len(got.Certificates), got.TableError)
		}
		k, err := d.DeriveKey(context.Background(), sealing.TCBOf(1))
		if err != nil {
			t.Fatal(err)
		}
		again, err := p.DeriveKey(context.Background(), sealing.TCBOf(1))
		if err != nil || !k.Equal(again) {
			t.Errorf("the key through pointers is another one: %v", err)
		}
	}
}

// case 78: no device is told apart from a broken one.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), file} {
		if _, err := snp.Open(path); !errors.Is(err, platform.ErrAbsent) {
			t.Errorf("%s: %v, want %v", path, err, platform.ErrAbsent)
		}
	}
	// A character device of another kind goes through the real system call and
	// answers ENOTTY, as the kernel does for a wiped key.
	k, err := snp.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snp.New(k, snp.Options{VMPL: 4}); err == nil {
		t.Error("VMPL 4 is accepted")
	}
	d, err := snp.New(k, snp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Report(context.Background(), platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrKeyWiped) || !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("%v, want %v", err, platform.ErrKeyWiped)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name     string
		exitInfo uint64
		err      error
		want     error
	}{
		{"good", 0, nil, nil},
		{"good, no firmware call noted", 0xFFFFFFFF, nil, nil},
		{"wiped", 0, syscall.ENOTTY, platform.ErrKeyWiped},
		{"busy", 2 << 32, syscall.EIO, platform.ErrBusy},
		{"busy, newer kernels", 2<<32 | 0xFFFFFFFF, syscall.EAGAIN, platform.ErrBusy},
		{"interrupted", 0, syscall.EINTR, platform.ErrBusy},
		{"throttled for a minute", 2 << 32, syscall.ETIMEDOUT, platform.ErrTimedOut},
		{"firmware status", 0x16, syscall.EIO, platform.ErrFirmware},
		{"firmware status without an error", 0x16, nil, platform.ErrFirmware},
		{"unknown hypervisor error", 9 << 32, syscall.EIO, platform.ErrFirmware},
		{"nothing known", 0xFF, syscall.EIO, platform.ErrFirmware},
		{"does not decrypt", 0xFF, syscall.EBADMSG, platform.ErrMalformed},
		{"gone", 0, syscall.ENODEV, platform.ErrAbsent},
	} {
		if err := snp.Classify(c.exitInfo, c.err); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
