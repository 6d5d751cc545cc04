// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"runtime"
	"testing"
)

// base is where a speaker is loaded.
const base = 0x400000

// speaker returns a program that says its word, and is what it says: a header, one segment, code for
// the two system calls write and exit, and the word. A copy of the shell's echo could not say which
// bytes ran.
func speaker(t *testing.T, word string) []byte {
	t.Helper()
	const header = 64 + 56 // of the file and of the segment (elf(5))
	word += "\n"
	var code []byte
	machine := elf.EM_X86_64
	switch runtime.GOARCH {
	case "amd64":
		code = append(code, 0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0xbe) // write(1, from the place
		code = binary.LittleEndian.AppendUint64(code, base+header+36)       // of the word,
		code = append(code, 0xba)
		code = binary.LittleEndian.AppendUint32(code, uint32(len(word))) // its length)
		code = append(code, 0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05)
	case "arm64":
		machine = elf.EM_AARCH64
		for _, i := range []uint32{0xd2800808, 0xd2800020, 0x100000c1, 0xd2800002 | uint32(len(word))<<5, 0xd4000001, 0xd2800ba8, 0xd2800000, 0xd4000001} {
			code = binary.LittleEndian.AppendUint32(code, i)
		}
	default:
		t.Skipf("there is no program for %s", runtime.GOARCH)
	}
	size := uint64(header + len(code) + len(word))
	head := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Entry: base + header, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	segment := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x10000}
	var b bytes.Buffer
	for _, part := range []any{head, segment, code, []byte(word)} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}
