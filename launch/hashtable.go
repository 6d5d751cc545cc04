// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// The hash table with which QEMU tells the firmware what it will be handed to boot (QEMU,
// target/i386/sev.c, SevHashTable; EDK II, OvmfPkg/AmdSev/BlobVerifierLibSevHashes). The
// firmware refuses to boot anything else. Lengths are little-endian u16 and include the
// 18 bytes of GUID and length:
//
//	GUID of the table, length
//	GUID, length, SHA-256 of the command line with its NUL
//	GUID, length, SHA-256 of the initrd, or of nothing
//	GUID, length, SHA-256 of the kernel
//	zeros up to a multiple of 16 bytes
var (
	guidHashes  = mustGUID("9438d606-4f22-4cc9-b479-a793d411fd21")
	guidCommand = mustGUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
	guidInitrd  = mustGUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
	guidKernel  = mustGUID("4de79437-abd2-427f-b835-d5b172d2045b")
)

const (
	hashEntry     = entryHeader + sha256.Size
	hashTableSize = (entryHeader + 3*hashEntry + 15) &^ 15
)

// hashTable returns the table for what QEMU boots.
func hashTable(kernel, initrd Source, commandLine string) ([]byte, error) {
	if len(commandLine) > MaxCommandLine {
		return nil, fmt.Errorf("command line of %d bytes, at most %d are accepted", len(commandLine), MaxCommandLine)
	}
	if strings.ContainsRune(commandLine, 0) {
		return nil, fmt.Errorf("the command line contains a NUL, at which it would end")
	}
	if kernel.Size() == 0 {
		return nil, fmt.Errorf("kernel: the file is empty")
	}
	kernelHash, err := hashOf("kernel", kernel)
	if err != nil {
		return nil, err
	}
	initrdHash, err := hashOf("initrd", initrd)
	if err != nil {
		return nil, err
	}
	table := appendEntry(make([]byte, 0, hashTableSize), guidHashes, entryHeader+3*hashEntry)
	command := sha256.Sum256(append([]byte(commandLine), 0))
	table = append(appendEntry(table, guidCommand, hashEntry), command[:]...)
	table = append(appendEntry(table, guidInitrd, hashEntry), initrdHash...)
	table = append(appendEntry(table, guidKernel, hashEntry), kernelHash...)
	return table[:hashTableSize], nil
}

func appendEntry(b []byte, id guid, length int) []byte {
	return binary.LittleEndian.AppendUint16(append(b, id[:]...), uint16(length))
}

// hashOf returns SHA-256 of a file, or of nothing if there is none.
func hashOf(name string, s Source) ([]byte, error) {
	h := sha256.New()
	if s == nil {
		return h.Sum(nil), nil
	}
	if s.Size() > MaxBoot {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are accepted", name, s.Size(), int64(MaxBoot))
	}
	n, err := io.Copy(h, io.NewSectionReader(s, 0, s.Size()))
	if err == nil && n != s.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%s: read: %w", name, err)
	}
	return h.Sum(nil), nil
}

// place puts the table into the page of a section, at the address that the image expects.
func (a hashArea) place(table []byte, s *section) (*[pageSize]byte, error) {
	at := uint64(a.address)
	switch {
	case uint64(a.size) < uint64(len(table)):
		return nil, fmt.Errorf("the place of the hash table has %d bytes, the table needs %d", a.size, len(table))
	case at < s.address || at+uint64(len(table)) > s.address+s.size:
		return nil, fmt.Errorf("the place of the hash table, %#x, is not in the section for it, at %#x with %d bytes", at, s.address, s.size)
	}
	var page [pageSize]byte
	copy(page[at-s.address:], table)
	return &page, nil
}
