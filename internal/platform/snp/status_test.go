// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform"
)

// TestStatusesAreNamed: every number that firmware or hypervisor can answer comes with its
// name if a specification has one, wherever it arrives, and says so if none has.
func TestStatusesAreNamed(t *testing.T) {
	reserved := map[uint32]bool{0x1e: true, 0x29: true, 0x2a: true, 0x2b: true, 0x2c: true, 0x2d: true, 0x2e: true, 0x2f: true, 0x34: true}
	for s := uint32(1); s <= 0x120; s++ {
		answer := binary.LittleEndian.AppendUint32(nil, s)
		n, known := statuses[s]
		if want := s < 0x40 && !reserved[s]; known != want {
			t.Errorf("0x%x: known %v, want %v", s, known, want)
		}
		for where, err := range map[string]error{"answer": status(answer), "ioctl": classify(uint64(s), syscall.EIO), "ioctl without errno": classify(uint64(s), nil)} {
			if s == noFirmwareCallOld && where != "answer" {
				continue // no call was made
			}
			named := known && strings.Contains(err.Error(), n.name) && strings.Contains(err.Error(), n.meaning)
			unnamed := !known && strings.Contains(err.Error(), "no specification names")
			if !errors.Is(err, platform.ErrFirmware) || !strings.Contains(err.Error(), fmt.Sprintf("0x%x", s)) || !named && !unnamed {
				t.Errorf("%s 0x%x: %v", where, s, err)
			}
		}
	}
	names := map[string]bool{}
	for s, n := range statuses {
		if names[n.name] || n.meaning == "" {
			t.Errorf("0x%x: %+v is there twice, or without meaning", s, n)
		}
		names[n.name] = true
	}
}

// TestExchangeErrorsAreOneLine: whatever the kernel and the two numbers are, the error is one
// line and says what to do, or names one of the kinds that have a code.
func TestExchangeErrorsAreOneLine(t *testing.T) {
	kinds := []error{platform.ErrAbsent, platform.ErrBusy, platform.ErrTimedOut, platform.ErrKeyWiped, platform.ErrFirmware, platform.ErrMalformed, errTableTooSmall}
	for _, hypervisor := range []uint32{0, 1, 2, 3, 0xffffffff} {
		for _, firmware := range []uint32{0, 0x1d, noFirmwareCall, noFirmwareCallOld, 0x77} {
			for _, errno := range []error{nil, syscall.EIO, syscall.ENOTTY, syscall.ENODEV, syscall.EAGAIN, syscall.ETIMEDOUT, syscall.EBADMSG, syscall.EINVAL} {
				err := classify(uint64(hypervisor)<<32|uint64(firmware), errno)
				if err == nil {
					continue
				}
				found := false
				for _, k := range kinds {
					found = found || errors.Is(err, k)
				}
				if !found || strings.Contains(err.Error(), "\n") || errno != nil && !errors.Is(err, errno) && !errors.Is(err, errTableTooSmall) {
					t.Errorf("0x%x 0x%x %v: %q", hypervisor, firmware, errno, err)
				}
				if errors.Is(err, platform.ErrFirmware) && (hypervisor != 0 || firmware == 0x1d || firmware == 0x77) && !strings.Contains(err.Error(), whatToDo) {
					t.Errorf("0x%x 0x%x %v: %q does not say what to do", hypervisor, firmware, errno, err)
				}
			}
		}
	}
}
