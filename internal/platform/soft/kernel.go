// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"sync"
	"syscall"
	"time"

	device "github.com/cvm-agentd/agentd/internal/platform/snp"
)

// kernel is between a [device.Device] and the firmware: it answers as
// Linux's driver does, faults included.
type kernel struct {
	firmware *firmware

	mu      sync.Mutex // guards the four below
	faults  Faults
	changed chan struct{} // closed when faults change
	last    time.Time
	count   int
}

func newKernel(f *firmware) *kernel {
	return &kernel{firmware: f, changed: make(chan struct{})}
}

func (k *kernel) setFaults(f Faults) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults = f
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *kernel) exchanges() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// Exchange follows [device.Transport].
func (k *kernel) Exchange(m *device.Message) (exitInfo uint64, err error) {
	k.mu.Lock()
	k.count++
	k.mu.Unlock()
	f, err := k.wait()
	if err != nil {
		return 0, err
	}
	switch {
	case f.KeyWiped:
		return 0, syscall.ENOTTY
	case f.Busy:
		return 2 << 32, syscall.EIO
	case f.FirmwareError != 0:
		return uint64(f.FirmwareError), syscall.EIO
	}
	switch m.Command {
	case device.GetReport:
		return 0, k.report(m, f)
	case device.GetExtendedReport:
		table := k.table(f)
		wanted := uint32(len(table)+4095) &^ 4095
		if f.HugeTable {
			wanted = 1 << 30
		}
		if m.TableSize = wanted; int(wanted) > len(m.Table) {
			return 1 << 32, syscall.EIO
		}
		clear(m.Table)
		copy(m.Table, table)
		return 0, k.report(m, f)
	case device.GetDerivedKey:
		return 0, k.derive(m, f)
	}
	return 0, syscall.ENOTTY
}

// wait waits while the host keeps the guest waiting, and returns the faults then.
func (k *kernel) wait() (Faults, error) {
	patience := time.Now().Add(kernelPatience)
	for {
		k.mu.Lock()
		f, changed, delay := k.faults, k.changed, time.Duration(0)
		if !k.last.IsZero() {
			delay = time.Until(k.last.Add(f.Throttle))
		}
		if !f.Stall && delay <= 0 {
			k.last = time.Now()
			k.mu.Unlock()
			return f, nil
		}
		k.mu.Unlock()
		if f.Stall {
			<-changed
			continue
		}
		if time.Now().Add(delay).After(patience) {
			return f, syscall.ETIMEDOUT
		}
		select {
		case <-time.After(delay):
		case <-changed:
		}
	}
}

func (k *kernel) table(f Faults) []byte {
	switch {
	case f.NoTable:
		return nil
	case f.GarbageTable:
		return garbageTable()
	case f.GrownTable:
		return append(k.firmware.table, make([]byte, 5*4096-len(k.firmware.table))...)
	}
	return k.firmware.table
}

// report writes MSG_REPORT_RSP: status at 0, size at 4, report at 32.
func (k *kernel) report(m *device.Message, f Faults) error {
	if len(m.Request) != 96 || len(m.Response) != 4000 {
		return syscall.EINVAL
	}
	data, vmpl := [64]byte(m.Request), binary.LittleEndian.Uint32(m.Request[64:])
	if f.WrongReportData {
		data[0] ^= 1
	}
	status, report := k.firmware.report(data, vmpl)
	if f.WrongVMPL && status == 0 {
		report[0x30] ^= 1
		status = k.firmware.sign(report)
	}
	if f.Status != 0 {
		status = f.Status
	}
	clear(m.Response)
	binary.LittleEndian.PutUint32(m.Response, status)
	if status != 0 {
		return nil
	}
	size := uint32(len(report))
	if f.ShortReport {
		size--
	}
	binary.LittleEndian.PutUint32(m.Response[4:], size)
	copy(m.Response[32:], report)
	return nil
}

// derive writes MSG_KEY_RSP: status at 0, key at 32.
func (k *kernel) derive(m *device.Message, f Faults) error {
	if len(m.Request) != 32 || len(m.Response) != 64 {
		return syscall.EINVAL
	}
	status, key := k.firmware.derive(f.misread(m.Request, k.firmware.o.VMPL))
	defer clear(key)
	if f.Status != 0 {
		status = f.Status
	}
	clear(m.Response)
	binary.LittleEndian.PutUint32(m.Response, status)
	if status == 0 && !f.ZeroKey {
		copy(m.Response[32:], key)
	}
	return nil
}

func (k *kernel) Close() error { return nil }
