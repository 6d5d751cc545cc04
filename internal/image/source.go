// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// maxParts is how many files an archive may have: a layout has one for each layer, and a few more.
const maxParts = 10000

// source is where the files of an image are: a folder or a tar archive.
type source interface {
	open(name string) (io.ReadCloser, error) // fs.ErrNotExist if there is none
	close()
}

// openSource opens a folder, or an archive that is not compressed.
func openSource(name string) (source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		return &folder{root}, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: it is neither a folder nor a regular file", name)
	}
	f, err := os.OpenFile(name, atOnce, 0)
	if err != nil {
		return nil, err
	}
	a, err := readArchive(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

// atOnce opens a file for reading. A FIFO is opened too, and not waited for.
const atOnce = os.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// folder is a layout in a folder, which nothing in it leads out of.
type folder struct{ root *os.Root }

func (d *folder) open(name string) (io.ReadCloser, error) {
	f, err := d.root.OpenFile(name, atOnce, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.New("not a regular file")
	}
	return f, nil
}

func (d *folder) close() { d.root.Close() }

// archive is a tar archive with the places of its files.
type archive struct {
	file  *os.File
	parts map[string]part
}

// part is a file of an archive, or a link to another one, as older versions of docker save write
// for a layer that occurs twice.
type part struct {
	at, size int64
	link     string
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// Seek skips: tar seeks over content that is not read.
func (c *counting) Seek(offset int64, whence int) (int64, error) {
	n, err := c.r.(io.Seeker).Seek(offset, whence)
	if err == nil {
		c.n = n
	}
	return n, err
}

// readArchive finds the files of an archive.
func readArchive(f *os.File) (*archive, error) {
	a := &archive{file: f, parts: make(map[string]part)}
	at := &counting{r: f}
	r := tar.NewReader(at)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is neither a folder nor a tar archive that is not compressed: %w", durable.Cause(err))
		}
		name := path.Clean(h.Name)
		if len(a.parts) == maxParts {
			return nil, fmt.Errorf("more than %d files in the archive", maxParts)
		}
		if _, twice := a.parts[name]; twice {
			return nil, fmt.Errorf("%q is in the archive twice", name)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			a.parts[name] = part{at: at.n, size: h.Size}
		case tar.TypeSymlink:
			a.parts[name] = part{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.parts[name] = part{link: path.Clean(h.Linkname)}
		}
	}
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	p, ok := a.parts[path.Clean(name)]
	if ok && p.link != "" {
		p, ok = a.parts[p.link]
		ok = ok && p.link == ""
	}
	if !ok || strings.HasPrefix(name, "..") {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(a.file, p.at, p.size)), nil
}

func (a *archive) close() { a.file.Close() }
