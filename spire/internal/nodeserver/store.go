// SPDX-License-Identifier: Apache-2.0

package nodeserver

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
)

// A state keeps what is known of each machine's log, and which attestation keys two machines used. Known of
// such a key fails with errDisputed.
type state interface {
	relying.Logs
	dispute(ctx context.Context, ak keys.Name) error
	name() string        // of the folder or table, for people
	same(c *config) bool // whether a configuration names this state
	close()
}

// errDisputed says that two machines used an attestation key.
var errDisputed = errors.New("two machines used this attestation key: find out which was cloned, and decide which one goes on, as docs/spire.md says")

// folder is a state of this server alone: one file for each attestation key.
//
//	AK.json      relying.History
//	AK.disputed  empty: two machines used that key, and none is accepted until the file is removed
//
// A file is replaced as a whole, before SPIRE hears of an attestation. So a crash leaves what was known
// before or after, and no attestation that is not known.
type folder struct {
	path string
	dir  *durable.Dir

	mu    sync.Mutex
	files int // AK.json files; with mu
}

const (
	maxHistory  = 8 << 20 // bytes of a file
	maxMachines = 100_000 // that are known
)

// openFolder opens a folder, which must belong to this user alone.
func openFolder(path string) (*folder, error) {
	dir, err := durable.Make(path)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	s := &folder{path: path, dir: dir}
	if err := dir.Lock(); err != nil {
		dir.Close()
		return nil, fmt.Errorf("state: another server uses %s: %w", path, err)
	}
	names, err := dir.Names()
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("state: %w", err)
	}
	for _, n := range names {
		if len(n) > len(known) && n[len(n)-len(known):] == known {
			s.files++
		}
	}
	return s, nil
}

func (s *folder) close() { s.dir.Close() }

func (s *folder) name() string { return s.path }

func (s *folder) same(c *config) bool { return s.path == c.State }

// Ends of names of files.
const (
	known    = ".json"
	disputed = ".disputed"
)

// read returns a file, nil if there is none.
func (s *folder) read(name string) ([]byte, error) {
	b, err := s.dir.Read(name, maxHistory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Known returns what is known of a machine, nil if nothing is.
func (s *folder) Known(_ context.Context, ak keys.Name) (*relying.History, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.dir.Read(file(ak)+disputed, 1); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%w (key %s)", errDisputed, ak)
		}
		return nil, err
	}
	b, err := s.read(file(ak) + known)
	if err != nil || b == nil {
		return nil, err
	}
	h := new(relying.History)
	if err := strictjson.Decode(b, maxHistory, h); err != nil {
		return nil, fmt.Errorf("what is known of the log of key %s: %w", ak, err)
	}
	return h, nil
}

// Advance replaces what is known.
func (s *folder) Advance(_ context.Context, ak keys.Name, before, next *relying.History) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.read(file(ak) + known)
	if err != nil {
		return err
	}
	var then []byte
	if before != nil {
		if then, err = strictjson.Encode(before); err != nil {
			return err
		}
	}
	if !bytes.Equal(now, then) {
		return relying.ErrMoved
	}
	if now == nil && s.files >= maxMachines {
		return fmt.Errorf("the logs of %d machines are known, and no more are kept: remove the files of machines that are retired", s.files)
	}
	b, err := encode(ak, next)
	if err != nil {
		return err
	}
	if err := s.dir.Replace(file(ak)+known, b); err != nil {
		return err
	}
	if now == nil {
		s.files++
	}
	return nil
}

// encode encodes what is known of the log of a key.
func encode(ak keys.Name, h *relying.History) ([]byte, error) {
	b, err := strictjson.Encode(h)
	if err == nil && len(b) > maxHistory {
		err = fmt.Errorf("what is known of the log of key %s has %d bytes, at most %d are kept", ak, len(b), maxHistory)
	}
	return b, err
}

// dispute keeps that two machines use an attestation key.
func (s *folder) dispute(_ context.Context, ak keys.Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dir.Replace(file(ak)+disputed, nil)
}

// file is the name of a file for a key, without its end.
func file(ak keys.Name) string { return hex.EncodeToString(ak) }
