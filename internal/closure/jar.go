// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"archive/zip"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// maxManifests is the number of manifests of one JAR that are read. Java takes one of them, whatever the
// case of its name.
const maxManifests = 8

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
	var out []string
	read := 0
	for _, f := range z.File {
		if !strings.EqualFold(f.Name, "META-INF/MANIFEST.MF") {
			continue
		}
		if read++; read > maxManifests {
			return out, fmt.Errorf("more than %d manifests", maxManifests)
		}
		b, err := readManifest(f)
		if err != nil {
			return out, err
		}
		out = append(out, manifestPaths(string(b))...)
	}
	if len(out) > maxPaths {
		return out[:maxPaths], fmt.Errorf("more than %d paths", maxPaths)
	}
	return out, nil
}

// readManifest returns the content of a manifest.
func readManifest(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return durable.ReadAll(r, maxText)
}

// manifestPaths reads the attribute in the main section of a manifest. Lines that begin with a blank
// continue the one before. Elements are URLs, relative to the archive; others are not followed.
func manifestPaths(text string) (out []string) {
	var list strings.Builder
	in := false
	for line := range strings.Lines(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)) { // each ends a line
		line = strings.TrimRight(line, "\n")
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
		if len(out) <= maxPaths && len(u.Path) <= maxName {
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
