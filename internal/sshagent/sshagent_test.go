// SPDX-License-Identifier: Apache-2.0

package sshagent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	sshclient "golang.org/x/crypto/ssh/agent"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/socket"
	"github.com/cvm-agentd/agentd/sealing"
)

// patience is how long anything may take.
const patience = 2 * time.Minute

// software is keys of an app without an agent.
type software struct {
	mu      sync.Mutex
	newest  uint32 // version; guarded by mu
	refused error  // of every request; guarded by mu
}

func (s *software) key(k api.SigningKey) (*sealing.SigningKey, uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.Version == 0 {
		k.Version = s.newest
	}
	made := k.Algorithm
	if sealing.InTPM(made) {
		made = api.SignP256 // which looks the same from outside
	}
	size, err := sealing.SigningSize(made)
	if err != nil || s.refused != nil {
		return nil, 0, errors.Join(err, s.refused)
	}
	sum := sha256.Sum256(fmt.Append(nil, k))
	key, err := sealing.NewSigningKey(made, bytes.Repeat(sum[:], 2)[:size])
	return key, k.Version, err
}

func (s *software) PublicKey(_ context.Context, k api.SigningKey) (*api.PublicKey, error) {
	key, version, err := s.key(k)
	if err != nil {
		return nil, err
	}
	der, err := key.PublicKey()
	return &api.PublicKey{PublicKey: der, Version: version}, err
}

func (s *software) Sign(_ context.Context, r api.SignRequest) (*api.Signed, error) {
	key, version, err := s.key(api.SigningKey{Label: r.Label, Algorithm: r.Algorithm, Version: r.Version})
	if err != nil {
		return nil, err
	}
	der, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(r.Message, nil)
	return &api.Signed{Signature: signature, PublicKey: der, Version: version}, err
}

// bed is an agent that answers.
type bed struct {
	*software
	path string
	mu   sync.Mutex
	said []string // guarded by mu
}

func (b *bed) says(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(strings.Join(b.said, "\n"), text)
}

// start starts an agent with a key of each algorithm.
func start(t *testing.T) *bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentd-ssh-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bed{software: &software{newest: 1}, path: filepath.Join(dir, "s")}
	var names []api.SigningKey
	for _, a := range api.SigningAlgorithms() {
		names = append(names, api.SigningKey{Label: "host", Algorithm: a})
	}
	a, err := New(b.software, names, func(line string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.said = append(b.said, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := socket.Listen(t.Context(), b.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(b.path); err == nil {
			t.Error("the socket is left")
		}
	})
	return b
}

func (b *bed) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", b.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// TestListAndSign checks that another implementation of the protocol lists the keys, and verifies what
// they sign.
func TestListAndSign(t *testing.T) {
	b := start(t)
	c := sshclient.NewClient(b.dial(t))
	keys, err := c.List()
	if err != nil || len(keys) != len(api.SigningAlgorithms()) {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	data := []byte("session")
	for _, k := range keys {
		signature, err := c.Sign(k, data)
		if err != nil || k.Comment != "host" {
			t.Fatalf("%s %q: %v", k.Format, k.Comment, err)
		}
		public, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			t.Fatal(err)
		}
		if err := public.Verify(data, signature); err != nil {
			t.Errorf("%s: %v", k.Format, err)
		}
		if err := public.Verify([]byte("other"), signature); err == nil {
			t.Errorf("%s: the signature is over other data, too", k.Format)
		}
		if _, err := c.SignWithFlags(k, data, sshclient.SignatureFlagRsaSha256); err == nil {
			t.Errorf("%s: signed with a flag for RSA", k.Format)
		}
		if _, err := c.Sign(k, make([]byte, sealing.MaxMessage)); err != nil {
			t.Errorf("%s: the longest message: %v", k.Format, err)
		}
	}
	// A new version of the root: the list has its keys, and a key from before still signs.
	b.software.mu.Lock()
	b.software.newest = 2
	b.software.mu.Unlock()
	again, err := c.List()
	if err != nil || len(again) != len(keys) || bytes.Equal(again[0].Blob, keys[0].Blob) {
		t.Fatalf("%d keys, %v", len(again), err)
	}
	for _, k := range append(keys, again...) {
		if _, err := c.Sign(k, data); err != nil {
			t.Errorf("%s: %v", k.Format, err)
		}
	}
}

// TestSignsWithoutAList checks that a program which kept the public half needs no list.
func TestSignsWithoutAList(t *testing.T) {
	b := start(t)
	keys, err := sshclient.NewClient(b.dial(t)).List()
	if err != nil {
		t.Fatal(err)
	}
	b2 := start(t)
	if _, err := sshclient.NewClient(b2.dial(t)).Sign(keys[0], []byte("data")); err != nil {
		t.Error(err)
	}
}

// TestRefusals checks that nothing is added, removed or locked, that no key of another is used, and
// that the connection goes on after each refusal.
func TestRefusals(t *testing.T) {
	b := start(t)
	c := sshclient.NewClient(b.dial(t))
	keys, err := c.List()
	if err != nil {
		t.Fatal(err)
	}
	stranger := *keys[0]
	stranger.Blob = bytes.Clone(stranger.Blob)
	stranger.Blob[len(stranger.Blob)-1]++
	for what, do := range map[string]func() error{
		"remove":     func() error { return c.Remove(keys[0]) },
		"remove all": func() error { return c.RemoveAll() },
		"lock":       func() error { return c.Lock([]byte("passphrase")) },
		"unlock":     func() error { return c.Unlock([]byte("passphrase")) },
		"extension":  func() error { _, err := c.Extension("session-bind@openssh.com", []byte("x")); return err },
		"other key":  func() error { _, err := c.Sign(&stranger, []byte("data")); return err },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error", what)
		}
		if again, err := c.List(); err != nil || len(again) != len(keys) {
			t.Errorf("after %s: %d keys, %v", what, len(again), err)
		}
	}
	b.software.mu.Lock()
	b.software.refused = errors.New("digest-not-authorised")
	b.software.mu.Unlock()
	if _, err := c.List(); err == nil {
		t.Error("keys were listed that are not available")
	}
	if _, err := c.Sign(keys[0], []byte("data")); err == nil || !b.says("digest-not-authorised") {
		t.Errorf("sign: %v; the log does not say why: %q", err, b.said)
	}
}

// TestEveryType checks each type of message, with nothing in it and with rubbish: all but a list
// are refused.
func TestEveryType(t *testing.T) {
	b := start(t)
	c := b.dial(t)
	for kind := range 256 {
		for _, rest := range [][]byte{nil, {0}, bytes.Repeat([]byte{0xff}, 100), make([]byte, 100)} {
			got := exchange(t, c, append([]byte{byte(kind)}, rest...))
			if want := byte(refusal); kind == listRequest && rest == nil {
				want = listAnswer
				if got[0] != want {
					t.Errorf("list: %x", got)
				}
			} else if len(got) != 1 || got[0] != want {
				t.Errorf("type %d with %d bytes: %x", kind, len(rest), got)
			}
		}
	}
}

func exchange(t *testing.T, c net.Conn, message []byte) []byte {
	t.Helper()
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)); err != nil {
		t.Fatal(err)
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestLengths checks that no room is made for a length that is not allowed, and that the connection
// ends.
func TestLengths(t *testing.T) {
	b := start(t)
	for _, n := range []uint32{0, maxMessage + 1, 1 << 24, 1<<32 - 1} {
		c := b.dial(t)
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
			t.Errorf("length %d: %x, %v", n, got, err)
		}
		if !b.says(fmt.Sprintf("a message of %d bytes is announced", n)) {
			t.Errorf("length %d: it waited for the message", n)
		}
	}
}

// TestConnections checks that so many connections are served and no more, and that one which goes
// makes room.
func TestConnections(t *testing.T) {
	b := start(t)
	var open []net.Conn
	for range maxConnections {
		c := b.dial(t)
		exchange(t, c, []byte{refusal})
		open = append(open, c)
	}
	if got, _ := io.ReadAll(b.dial(t)); len(got) > 0 {
		t.Errorf("one more got %x", got)
	}
	open[0].Close()
	for end := time.Now().Add(patience); ; {
		c := sshclient.NewClient(b.dial(t))
		if _, err := c.List(); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a connection that ended makes no room")
		}
	}
}
