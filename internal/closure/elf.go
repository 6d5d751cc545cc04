// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// An object is what the loader reads of an executable or a library. It is found by the program
// headers alone, as the kernel and the loader find it: the section headers, from which debug/elf
// reads the same, may be missing or say something else.
type object struct {
	class   elf.Class
	machine elf.Machine
	kind    elf.Type
	interp  string   // loader that the kernel starts (PT_INTERP)
	needed  []string // DT_NEEDED, in order
	audit   []string // DT_AUDIT and DT_DEPAUDIT
	filters []string // DT_FILTER and DT_AUXILIARY
	soname  string
	rpath   *string // DT_RPATH
	runpath *string // DT_RUNPATH
	bare    bool    // DF_1_NODEFLIB: no default folders
	dynamic bool
	later   []later // that it says to load later (dlopen metadata)
}

// A later is a library that an object may load by dlopen, by its own word.
type later struct {
	Names    []string `json:"soname"`
	Feature  string   `json:"feature"`
	Priority string   `json:"priority"`
}

// errNotELF is returned for what is not an ELF file.
var errNotELF = errors.New("not an ELF file")

// An image reads parts of an ELF file.
type image struct {
	r     io.ReaderAt
	size  int64
	order binary.ByteOrder
	wide  bool // 64 bits
	loads []elf.Prog64
	texts int // bytes of the names that were read
	notes int // bytes of the notes that were read
}

// readObject reads an executable or a library of a size. What its headers claim beyond the limits
// is an error.
func readObject(r io.ReaderAt, size int64) (*object, error) {
	x := &image{r: r, size: size}
	h, err := x.header()
	if err != nil {
		return nil, err
	}
	o := &object{class: elf.ELFCLASS32, machine: elf.Machine(h.Machine), kind: elf.Type(h.Type)}
	if x.wide {
		o.class = elf.ELFCLASS64
	}
	programs, err := x.programs(h)
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		switch elf.ProgType(p.Type) {
		case elf.PT_INTERP:
			b, err := x.bytes(p.Off, p.Filesz, maxName)
			if err != nil {
				return nil, fmt.Errorf("name of the loader: %w", err)
			}
			o.interp = unix.ByteSliceToString(b)
		case elf.PT_DYNAMIC:
			if err := x.readDynamic(o, &p); err != nil {
				return nil, fmt.Errorf("dynamic section: %w", err)
			}
		case elf.PT_NOTE:
			b, err := x.bytes(p.Off, p.Filesz, uint64(maxNotes-x.notes)) // of all segments, which may be the same bytes
			if x.notes += len(b); err == nil {                           // hints only
				o.later = append(o.later, x.readNotes(b)...)
			}
		}
	}
	return o, nil
}

// header reads the ELF header.
func (x *image) header() (*elf.Header64, error) {
	ident := make([]byte, elf.EI_NIDENT)
	if _, err := x.r.ReadAt(ident, 0); err != nil || string(ident[:4]) != elf.ELFMAG {
		return nil, errNotELF
	}
	switch elf.Data(ident[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		x.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		x.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("%w: unknown byte order", errNotELF)
	}
	switch elf.Class(ident[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		x.wide = true
		var h elf.Header64
		err := x.decode(0, &h)
		return &h, err
	case elf.ELFCLASS32:
		var h elf.Header32
		err := x.decode(0, &h)
		return &elf.Header64{Type: h.Type, Machine: h.Machine, Phoff: uint64(h.Phoff), Phentsize: h.Phentsize, Phnum: h.Phnum}, err
	}
	return nil, fmt.Errorf("%w: unknown class", errNotELF)
}

// programs reads the program headers.
func (x *image) programs(h *elf.Header64) ([]elf.Prog64, error) {
	entry := 32
	if x.wide {
		entry = 56
	}
	if h.Phnum == 0 {
		return nil, nil
	}
	if int(h.Phentsize) != entry {
		return nil, fmt.Errorf("program headers of %d bytes, want %d", h.Phentsize, entry)
	}
	b, err := x.bytes(h.Phoff, uint64(h.Phnum)*uint64(entry), maxHeaders)
	if err != nil {
		return nil, fmt.Errorf("program headers: %w", err)
	}
	out := make([]elf.Prog64, h.Phnum)
	for i := range out {
		raw := bytes.NewReader(b[i*entry : (i+1)*entry])
		if x.wide {
			err = binary.Read(raw, x.order, &out[i])
		} else {
			var p elf.Prog32
			err = binary.Read(raw, x.order, &p)
			out[i] = elf.Prog64{Type: p.Type, Off: uint64(p.Off), Vaddr: uint64(p.Vaddr), Filesz: uint64(p.Filesz), Memsz: uint64(p.Memsz)}
		}
		if err != nil {
			return nil, err
		}
		if elf.ProgType(out[i].Type) == elf.PT_LOAD {
			x.loads = append(x.loads, out[i])
		}
	}
	return out, nil
}

// readDynamic reads the entries that name other files.
func (x *image) readDynamic(o *object, p *elf.Prog64) error {
	b, err := x.bytes(p.Off, p.Filesz, maxDynamic)
	if err != nil {
		return err
	}
	o.dynamic = true
	type entry struct {
		tag   elf.DynTag
		value uint64
	}
	var named []entry
	var table, length uint64
	for tag, value := range x.entries(b) {
		switch tag {
		case elf.DT_STRTAB:
			table = value
		case elf.DT_STRSZ:
			length = value
		case elf.DT_FLAGS_1:
			o.bare = elf.DynFlag1(value)&elf.DF_1_NODEFLIB != 0
		case elf.DT_NEEDED, elf.DT_SONAME, elf.DT_RPATH, elf.DT_RUNPATH, elf.DT_AUDIT, elf.DT_DEPAUDIT, elf.DT_FILTER, elf.DT_AUXILIARY:
			if len(named) == maxNames {
				return fmt.Errorf("more than %d names", maxNames)
			}
			named = append(named, entry{tag, value})
		}
	}
	for _, e := range named {
		s, err := x.text(table, length, e.value)
		if err != nil {
			return fmt.Errorf("%v: %w", e.tag, err)
		}
		switch e.tag {
		case elf.DT_NEEDED:
			o.needed = append(o.needed, s)
		case elf.DT_SONAME:
			o.soname = s
		case elf.DT_RPATH:
			o.rpath = &s
		case elf.DT_RUNPATH:
			o.runpath = &s
		case elf.DT_AUDIT, elf.DT_DEPAUDIT:
			o.audit = append(o.audit, s)
		default:
			o.filters = append(o.filters, s)
		}
	}
	return nil
}

// entries returns the entries of a dynamic section, up to the one that ends it.
func (x *image) entries(b []byte) func(func(elf.DynTag, uint64) bool) {
	return func(yield func(elf.DynTag, uint64) bool) {
		size := 8
		if x.wide {
			size = 16
		}
		for ; len(b) >= size; b = b[size:] {
			tag, value := elf.DynTag(int32(x.order.Uint32(b))), uint64(x.order.Uint32(b[size/2:]))
			if x.wide {
				tag, value = elf.DynTag(int64(x.order.Uint64(b))), x.order.Uint64(b[8:])
			}
			if tag == elf.DT_NULL || !yield(tag, value) {
				return
			}
		}
	}
}

// text returns the text at an offset of the table of texts, which is known by its address.
func (x *image) text(table, length, offset uint64) (string, error) {
	if offset >= length {
		return "", fmt.Errorf("text at %d of a table of %d bytes", offset, length)
	}
	at := table + offset
	for _, l := range x.loads {
		if at < table || at < l.Vaddr || at-l.Vaddr >= l.Filesz {
			continue
		}
		off := l.Off + (at - l.Vaddr)
		if off < l.Off || off >= uint64(x.size) {
			continue
		}
		b, err := x.bytes(off, min(maxName+1, length-offset, l.Filesz-(at-l.Vaddr), uint64(x.size)-off), maxName+1)
		if err != nil {
			return "", err
		}
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return "", fmt.Errorf("text of more than %d bytes", maxName)
		}
		if x.texts += i; x.texts > maxTexts { // they may overlap, so the file can be far smaller
			return "", fmt.Errorf("names of more than %d bytes", maxTexts)
		}
		return string(b[:i]), nil
	}
	return "", errors.New("text outside the file")
}

// dlopenNote is the type of the notes of the name FDO that list libraries for dlopen
// (the UAPI group's "ELF dlopen() metadata").
const dlopenNote = 0x407c0c0a

// readNotes reads the notes about dlopen of a segment of notes (elf(5), "Notes").
func (x *image) readNotes(b []byte) (out []later) {
	align := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for len(b) >= 12 {
		name, desc, kind := x.order.Uint32(b), x.order.Uint32(b[4:]), x.order.Uint32(b[8:])
		b = b[12:]
		whole := align(name) + align(desc)
		if align(name)+uint64(desc) > uint64(len(b)) {
			return out
		}
		if content := b[align(name):][:desc]; kind == dlopenNote && unix.ByteSliceToString(b[:name]) == "FDO" {
			var these []later
			if strictjson.DecodeForeign([]byte(unix.ByteSliceToString(content)), maxNotes, &these) == nil && len(out)+len(these) <= maxNames {
				out = append(out, these...)
			}
		}
		b = b[min(whole, uint64(len(b))):]
	}
	return out
}

// decode reads a struct at an offset.
func (x *image) decode(at int64, into any) error {
	err := binary.Read(io.NewSectionReader(x.r, at, int64(binary.Size(into))), x.order, into)
	if err != nil {
		return fmt.Errorf("%w: header is cut", errNotELF)
	}
	return nil
}

// bytes reads a part of the file.
func (x *image) bytes(at, n, limit uint64) ([]byte, error) {
	if n > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are read", n, limit)
	}
	if at > uint64(x.size) || n > uint64(x.size)-at {
		return nil, errors.New("outside the file")
	}
	b := make([]byte, n)
	if _, err := x.r.ReadAt(b, int64(at)); err != nil {
		return nil, err
	}
	return b, nil
}

// size returns the bytes of memory that the names of an object take, about.
func (o *object) size() (n int) {
	const header = 16 // of a string
	for _, list := range [][]string{o.needed, o.audit, o.filters} {
		for _, s := range list {
			n += header + len(s)
		}
	}
	for _, l := range o.later {
		for _, s := range l.Names {
			n += 2*header + len(s)
		}
	}
	return n
}
