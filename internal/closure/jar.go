// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
)

// classPath returns the relative paths that the manifest of a JAR lists under Class-Path (JAR file
// specification, "Class-Path attribute"). An archive without a manifest has none.
func classPath(r io.ReaderAt, size int64) ([]string, error) {
	if size > maxArchive {
		return nil, fmt.Errorf("%d bytes, at most %d are looked into", size, maxArchive)
	}
	z, err := zip.NewReader(&budget{r: r, left: maxDirectory}, size)
	if err != nil {
		return nil, err
	}
	f, err := z.Open("META-INF/MANIFEST.MF")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxText {
		return nil, fmt.Errorf("it has more than %d bytes", maxText)
	}
	return manifestPaths(string(b)), nil
}

// manifestPaths reads the attribute in the main section of a manifest. Lines that begin with a blank
// continue the one before. Elements are URLs, relative to the archive; others are not followed.
func manifestPaths(text string) (out []string) {
	var list strings.Builder
	in := false
	for line := range strings.Lines(strings.ReplaceAll(text, "\r\n", "\n")) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break // the main section ends
		}
		if rest, more := strings.CutPrefix(line, " "); more {
			if in {
				list.WriteString(rest)
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if in = ok && strings.EqualFold(name, "Class-Path"); in {
			list.WriteString(value)
		}
	}
	for _, element := range strings.Fields(list.String()) {
		u, err := url.Parse(element)
		if err != nil || u.Scheme != "" && u.Scheme != "file" || u.Host != "" || u.Path == "" || strings.ContainsRune(u.Path, 0) {
			continue
		}
		if len(out) < maxPaths && len(u.Path) <= maxName {
			out = append(out, u.Path)
		}
	}
	return out
}

// A budget is a file of which only so many bytes are read: an archive can claim a list of files of
// any length.
type budget struct {
	r    io.ReaderAt
	left int64
}

// ReadAt reads from the file beneath.
func (b *budget) ReadAt(p []byte, at int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, fmt.Errorf("its list of files has more than %d bytes", maxDirectory)
	}
	return b.r.ReadAt(p, at)
}
