// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// The cache of the loader of glibc (sysdeps/generic/dl-cache.h): a header of 48 bytes, entries of
// 24 bytes, and texts. Numbers have the byte order of the machine; offsets of texts count from the
// header. A cache in the older format, which may come before, is of no use to a loader that knows
// the newer one.
const (
	oldCache   = "ld.so-1.7.0"
	newCache   = "glibc-ld.so.cache1.1"
	cacheHead  = 48
	cacheEntry = 24
)

// cacheFlags are the flags of entries for programs of a machine (FLAG_… in dl-cache.h).
var cacheFlags = map[elf.Machine]int32{
	elf.EM_X86_64: 0x0303, elf.EM_386: 0x0003, elf.EM_AARCH64: 0x0a03,
}

// A cachedLibrary is a library of the cache.
type cachedLibrary struct {
	path  string
	flags int32
	hwcap bool // only for processors that can do more
}

// readCache reads a cache. It returns the libraries of each name in their order.
func readCache(b []byte) (map[string][]cachedLibrary, error) {
	b, err := cacheBegin(b)
	if err != nil {
		return nil, err
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if b[28] == 3 { // of a machine with the other byte order, which tools can write
		order = binary.BigEndian
	}
	count := order.Uint32(b[20:])
	if count > maxCached || uint64(count)*cacheEntry > uint64(len(b)-cacheHead) {
		return nil, fmt.Errorf("%d libraries in %d bytes", count, len(b))
	}
	out := make(map[string][]cachedLibrary)
	for i := range int(count) {
		e := b[cacheHead+i*cacheEntry:]
		key, ok := cacheText(b, order.Uint32(e[4:]))
		value, also := cacheText(b, order.Uint32(e[8:]))
		if !ok || !also {
			return nil, fmt.Errorf("library %d has no name", i)
		}
		if path.IsAbs(value) {
			out[key] = append(out[key], cachedLibrary{path: path.Clean(value), flags: int32(order.Uint32(e)), hwcap: order.Uint64(e[16:]) != 0})
		}
	}
	return out, nil
}

// cacheBegin returns the part of the file with the newer format.
func cacheBegin(b []byte) ([]byte, error) {
	if bytes.HasPrefix(b, []byte(oldCache)) && len(b) >= 16 {
		skip := 16 + 12*uint64(binary.LittleEndian.Uint32(b[12:]))
		if skip = (skip + 7) &^ 7; skip > uint64(len(b)) {
			return nil, errors.New("it is cut")
		}
		b = b[skip:]
	}
	if !bytes.HasPrefix(b, []byte(newCache)) || len(b) < cacheHead {
		return nil, errors.New("it is not a cache of glibc 2.2 or later")
	}
	return b, nil
}

func cacheText(b []byte, at uint32) (string, bool) {
	if uint64(at) >= uint64(len(b)) {
		return "", false
	}
	rest := b[at:min(uint64(len(b)), uint64(at)+maxName)]
	i := bytes.IndexByte(rest, 0)
	if i < 1 {
		return "", false
	}
	return string(rest[:i]), true
}

// conf returns the folders of /etc/ld.so.conf and of the files that it includes (ldconfig(8)).
func (t *tree) conf(file string, depth int, read *int) (dirs []string) {
	if *read++; *read > maxIncluded || depth > maxNested {
		t.omitted("%s is not followed: /etc/ld.so.conf includes more than %d files, or by more than %d others", file, maxIncluded, maxNested)
		return nil
	}
	b, err := t.read(file, maxText)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // which ldconfig passes over too
			t.omitted("%s could not be read, and the folders of libraries in it are not followed: %v", file, durable.Cause(err))
		}
		return nil
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		words := splitList(line, " \t\r\n:,")
		switch {
		case len(words) == 0 || words[0] == "hwcap":
		case words[0] == "include":
			for _, pattern := range words[1:] {
				if !path.IsAbs(pattern) {
					pattern = path.Join(path.Dir(file), pattern)
				}
				for _, f := range t.matches(pattern) {
					dirs = append(dirs, t.conf(f, depth+1, read)...)
				}
			}
		default:
			for _, dir := range words {
				dir, _, _ = strings.Cut(dir, "=")             // of libc5
				if path.IsAbs(dir) && len(dirs) <= maxPaths { // one more is said
					dirs = append(dirs, path.Clean(dir))
				}
			}
		}
	}
	if len(dirs) > maxPaths {
		t.omitted("%s names more than %d folders of libraries: the others are not followed", file, maxPaths)
	}
	return dirs[:min(len(dirs), maxPaths)]
}
