// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/collateral"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tunnel"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// metricsListener listens for monitoring, nil if it is not wanted. The figures say who connects how
// often, so only this machine may ask.
func metricsListener(ctx context.Context, where string) (net.Listener, error) {
	if where == "" {
		return nil, nil
	}
	a, err := tunnel.ParseAddress(where, true)
	if err != nil {
		return nil, fmt.Errorf("metrics %w", err)
	}
	if !a.Local() {
		return nil, fmt.Errorf("metrics %q: want an address of this machine alone, such as 127.0.0.1:9101, or unix:PATH", where)
	}
	return a.Listen(ctx)
}

// stays is a writer that is not closed.
type stays struct{ io.Writer }

func (stays) Close() error { return nil }

// openAccessLog opens the file that gets a line for each connection, nil if there is none.
func (t *terminal) openAccessLog(name string) (io.WriteCloser, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return stays{t.out}, nil
	}
	// A FIFO would wait for a reader, and a link of another user lead to a file of this one.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("access-log: %w", err)
	}
	at, err := f.Stat()
	if err == nil && !at.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("access-log: %w", err)
	}
	return f, nil
}

// maxFolderFiles is how many files of a folder of collateral are read.
const maxFolderFiles = 4096

// addFolder adds every certificate and revocation list of a folder that "agentctl collateral fetch"
// filled: which machines will connect is not known yet.
func addFolder(dir string, c *verify.Config) error {
	if dir == "" {
		return nil
	}
	if _, err := collateral.OpenFolder(dir); err != nil {
		return fmt.Errorf("collateral: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("collateral: %w", err)
	}
	if len(files) > maxFolderFiles {
		return fmt.Errorf("collateral %s: there are more than %d files, which is the most that are read", dir, maxFolderFiles)
	}
	for _, file := range files {
		name, kind := filepath.Join(dir, file.Name()), filepath.Ext(file.Name())
		if !slices.Contains([]string{".der", ".pem", ".crl"}, kind) {
			continue
		}
		b, err := durable.ReadRegular(name, collateral.MaxFile)
		if err != nil {
			return fmt.Errorf("collateral %s: %w", name, err)
		}
		if kind == ".crl" {
			l, err := snp.ParseRevocationList(b)
			if err != nil {
				return fmt.Errorf("collateral %s: %w", name, err)
			}
			c.Revocation.SNP = append(c.Revocation.SNP, l)
			continue
		}
		ders, err := snp.DecodeCertificates(b)
		if err != nil {
			return fmt.Errorf("collateral %s: %w", name, err)
		}
		c.Certificates = append(c.Certificates, ders...)
	}
	return nil
}
