// SPDX-License-Identifier: Apache-2.0

package nodeserver

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

const (
	maxFile  = snp.MaxRevocationList // bytes of a file: certificates have fewer
	maxFiles = 20000                 // of a folder of collateral
	cached   = 1024                  // verified reports and chains that are remembered
)

// source is the policy, and what evidence is verified by. Files that changed are read again when the next
// machine comes: revocation lists expire, so they have to be exchanged while the server runs.
type source struct {
	policy, collateral, testRoot string

	mu   sync.Mutex
	seen string // how the files looked; with mu
	now  *ruling
}

// ruling is a policy in force.
type ruling struct {
	policy    *verify.Policy
	verifier  *verify.Verifier
	freshness evidence.Freshness
}

// current returns the policy in force. Files that cannot be read leave nothing in force: a policy that its
// author meant to replace must not go on.
func (s *source) current() (*ruling, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	look, err := s.look()
	if err != nil {
		return nil, err
	}
	if s.now != nil && look == s.seen {
		return s.now, nil
	}
	next, err := s.load()
	if err != nil {
		return nil, err
	}
	s.now, s.seen = next, look
	return next, nil
}

// files returns the files of a folder of collateral.
func (s *source) files() (paths []string, err error) {
	if s.collateral == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.collateral)
	if err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	if len(entries) > maxFiles {
		return nil, fmt.Errorf("collateral: %s has %d files, at most %d", s.collateral, len(entries), maxFiles)
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".crl", ".pem", ".crt", ".cer", ".der":
			paths = append(paths, filepath.Join(s.collateral, e.Name()))
		}
	}
	return paths, nil
}

// look returns what tells whether a file changed. A package or an image may set the time at which a file was
// written, and digests have one length: so the number of the file and the time of its change count too, which
// the kernel sets.
func (s *source) look() (string, error) {
	paths, err := s.files()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, path := range append(paths, s.policy, s.testRoot) {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintln(&b, st.Dev, st.Ino, st.Ctim)
		}
	}
	return b.String(), nil
}

// load reads all files.
func (s *source) load() (*ruling, error) {
	text, err := durable.ReadRegular(s.policy, verify.MaxPolicy)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	r := new(ruling)
	if r.policy, err = verify.ParsePolicy(text); err != nil {
		return nil, fmt.Errorf("policy %s: %w", s.policy, err)
	}
	if err := check(r.policy); err != nil {
		return nil, fmt.Errorf("policy %s: %w", s.policy, err)
	}
	c := verify.Config{CacheEntries: cached}
	if err := s.collect(&c); err != nil {
		return nil, err
	}
	if s.testRoot != "" {
		if c.Roots.SNP, err = roots(s.testRoot); err != nil {
			return nil, err
		}
	}
	r.freshness = evidence.Anchored
	if cmp.Or(r.policy.Freshness, verify.FreshReport) == verify.FreshReport {
		r.freshness = evidence.Fresh
	}
	r.verifier, err = verify.New(r.policy, c)
	return r, err
}

// check refuses a policy that cannot protect what SPIRE hands out, or that refuses every machine.
func check(p *verify.Policy) error {
	if p.Caller.Unit == "" && p.Caller.Container == "" {
		return errors.New("it does not name the caller (caller.unit or caller.container), so any program of an accepted machine could become its SPIRE agent: name the unit of spire-agent")
	}
	if p.Log == verify.Optional {
		return errors.New(`log = "optional" lets evidence leave the measurement log out: then nothing tells a log that was turned back`)
	}
	if p.Continuation == verify.Required {
		return errors.New(`continuation = "required" refuses each machine at its first visit: leave it out, the server remembers logs by itself`)
	}
	ima := p.IMA != verify.IMA{} || len(p.IMAFiles) > 0
	if ima && p.IMA.List != verify.Optional {
		return errors.New("it asks for the list of IMA, which does not go through SPIRE")
	}
	return nil
}

// collect reads the files of the folder of collateral.
func (s *source) collect(c *verify.Config) error {
	paths, err := s.files()
	if err != nil {
		return err
	}
	for _, path := range paths {
		b, err := durable.ReadRegular(path, maxFile)
		if err != nil {
			return fmt.Errorf("collateral: %w", err)
		}
		if filepath.Ext(path) == ".crl" {
			list, err := snp.ParseRevocationList(b)
			if err != nil {
				return fmt.Errorf("collateral: %s: %w", path, err)
			}
			c.Revocation.SNP = append(c.Revocation.SNP, list)
			continue
		}
		all, err := snp.ParseCertificates(b)
		if err != nil {
			return fmt.Errorf("collateral: %s: %w", path, err)
		}
		for _, x := range all {
			c.Certificates = append(c.Certificates, x.Raw)
		}
	}
	return nil
}

// roots returns the certificates of a file as the only roots.
func roots(path string) (*snp.Roots, error) {
	b, err := durable.ReadRegular(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("test root: %w", err)
	}
	all, err := snp.ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("test root %s: %w", path, err)
	}
	out := new(snp.Roots)
	for _, x := range all {
		if err := out.AddTestRootThatVouchesForNoHardware(x); err != nil {
			return nil, fmt.Errorf("test root %s: %w", path, err)
		}
	}
	return out, nil
}
