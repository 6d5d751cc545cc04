// SPDX-License-Identifier: Apache-2.0

// Package packages collects the digests of the files of packages and of folders: what the
// kernel may measure on a machine on which they are installed. Whether a package is genuine is
// for its signature to say, which is not looked at.
package packages

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/pcr"
)

// maxFiles is the number of files that are read. A small archive can unpack to any number of them:
// a reference has room for half as many.
const maxFiles = 4 << 20

// Digests are the digests of files under one algorithm.
type Digests struct {
	Algorithm pcr.Algorithm // that Go can compute
	Values    [][]byte      // in the order of the files, with those that occur twice

	buffer []byte // for reading: one for all files, of which there may be hundreds of thousands
}

// Tree adds every regular file below a folder. It follows no link, and so leaves the folder
// nowhere.
func (d *Digests) Tree(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, at fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !at.Type().IsRegular() {
			return nil
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return d.add(ctx, name, f)
	})
}

// Package adds the files of a package of Debian or of RPM, which its first bytes tell apart.
func (d *Digests) Package(ctx context.Context, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	head, err := r.Peek(8)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("read %s: %w", name, durable.Cause(err))
	case bytes.HasPrefix(head, []byte("!<arch>\n")):
		err = d.deb(ctx, name)
	case bytes.HasPrefix(head, rpmLead):
		err = d.rpm(r)
	default:
		err = errors.New("it is a package neither of Debian nor of RPM")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// deb adds the files of a package of Debian. dpkg-deb knows how they are compressed.
func (d *Digests) deb(ctx context.Context, name string) error {
	if strings.HasPrefix(name, "-") {
		name = "./" + name
	}
	c := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", name)
	c.WaitDelay = time.Minute // for what it started
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return fmt.Errorf("unpack it with dpkg-deb: %w", err)
	}
	read := d.tar(ctx, out)
	if read != nil { // or it, and what it started, would wait for a reader
		out.Close()
		c.Process.Kill()
	}
	if err := c.Wait(); err != nil && read == nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return read
}

// tar adds the regular files of an archive, to its end.
func (d *Digests) tar(ctx context.Context, r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			_, err := io.Copy(io.Discard, r)
			return err
		case err != nil:
			return fmt.Errorf("read its files: %w", err)
		case h.Typeflag == tar.TypeReg:
			if err := d.add(ctx, h.Name, t); err != nil {
				return err
			}
		}
	}
}

// add adds one file, until ctx ends: an archive can have one of any size, without any bytes of it.
func (d *Digests) add(ctx context.Context, name string, r io.Reader) error {
	k, ok := d.Algorithm.Hash()
	if !ok {
		return fmt.Errorf("%s cannot be computed", d.Algorithm)
	}
	if len(d.Values) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	h := k.New()
	if d.buffer == nil {
		d.buffer = make([]byte, 64<<10)
	}
	if _, err := io.CopyBuffer(h, &untilEnd{ctx, r}, d.buffer); err != nil {
		return fmt.Errorf("read %s: %w", name, durable.Cause(err))
	}
	d.Values = append(d.Values, h.Sum(nil))
	return nil
}

// untilEnd is a reader that fails when its context has ended.
type untilEnd struct {
	ctx context.Context
	r   io.Reader
}

// Read reads from the reader beneath.
func (u *untilEnd) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
