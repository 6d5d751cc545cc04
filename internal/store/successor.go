// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

// Files of an upgrade, in the directory of the store.
const (
	requestFile = "upgrade-request.sealed" // private half of the successor's key, sealed to this machine
	beforeFile  = "before-upgrade.sealed"  // manifest of the predecessor, which opens on its machine alone
)

// successor refuses an upgrade to a store that has secrets of its own, or that does not open for
// a reason that has nothing to do with another machine.
func (s *Store) successor() error {
	switch {
	case s.locked == nil:
		if n := len(s.travels()); n > 0 {
			return &sealing.Error{Code: api.CodeStoreInUse, Detail: fmt.Sprintf("the store of this machine has %d blobs of its own", n)}
		}
	case s.refused != nil || !locksOut(s.locked) && sealing.CodeOf(s.locked) != api.CodeNoRecovery:
		return s.locked
	}
	if s.roots.kind() == 0 {
		return &sealing.Error{Code: api.CodeNoUsableSlot, Detail: "this machine has neither keys that SNP firmware derives nor a TPM to seal to"}
	}
	return nil
}

// asked is the key of a request, as it is kept.
type asked struct {
	request   transfer.Request // without evidence
	seed      *secret.Secret
	tpmSecret []byte // that it is sealed to
}

// askedSize is the size of the payload: challenge, store key, private half.
const askedSize = transfer.ChallengeSize + 32 + message.SeedSize

// Ask returns a request for what offer offers, to which the caller adds evidence. Its key is kept
// until the answer is accepted, also over a reboot. The same offer gives the same key.
func (s *Store) Ask(ctx context.Context, offer transfer.Offer) (*transfer.Request, error) {
	ctx, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end()
	if err := s.successor(); err != nil {
		return nil, err
	}
	a, err := s.readAsked(ctx)
	if err == nil {
		defer a.seed.Wipe()
		if a.request.Challenge == offer.Challenge && a.request.StoreKey == offer.StoreKey {
			return &a.request, nil
		}
	} else if sealing.CodeOf(err) == api.CodeRootUnavailable {
		return nil, err
	}
	fresh := &asked{request: transfer.Request{Challenge: offer.Challenge, StoreKey: offer.StoreKey}}
	if a != nil {
		fresh.tpmSecret = a.tpmSecret
	}
	if fresh.seed, fresh.request.Public, err = message.NewKey(); err != nil {
		return nil, err
	}
	defer fresh.seed.Wipe()
	if err := s.keepAsked(ctx, fresh); err != nil {
		return nil, err
	}
	return &fresh.request, nil
}

// keepAsked seals the key of a request to this machine, and writes it.
func (s *Store) keepAsked(ctx context.Context, a *asked) (err error) {
	to := target{loss: true, tpmSecret: a.tpmSecret}
	if s.locked == nil {
		to.tpmSecret = s.header.TPMSecret
	}
	if s.roots.tpm != nil && len(to.tpmSecret) == 0 {
		if to.tpmSecret, err = s.roots.newTPMSecret(ctx); err != nil {
			return err
		}
	}
	if to.key, err = newStoreKey(); err != nil { // it signs this file alone
		return err
	}
	defer to.key.wipe()
	payload, err := secret.New(askedSize)
	if err != nil {
		return err
	}
	defer payload.Wipe()
	err = payload.Use(func(b []byte) error {
		n := copy(b, a.request.Challenge[:])
		n += copy(b[n:], a.request.StoreKey[:])
		return a.seed.Use(func(seed []byte) error { copy(b[n:], seed); return nil })
	})
	if err != nil {
		return err
	}
	b, err := s.roots.seal(ctx, sealing.Header{Kind: sealing.KindSecret, App: upgradeApp, Name: requestFile}, to, payload)
	if err != nil {
		return err
	}
	if err := s.config.Files.WriteDurable(requestFile, b.Encode()); err != nil {
		return &sealing.Error{Code: api.CodeInterrupted, Detail: "write " + requestFile, Err: err}
	}
	return nil
}

// readAsked opens the key of the last request. The caller wipes the seed.
func (s *Store) readAsked(ctx context.Context) (*asked, error) {
	raw, err := s.config.Files.Read(requestFile, sealing.MaxBlob)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &sealing.Error{Code: api.CodeOtherRequest, Detail: "this agent made no request for an upgrade, or its answer was accepted already"}
	}
	if err != nil {
		return nil, &sealing.Error{Code: api.CodeRootUnavailable, Detail: "read " + requestFile, Err: err}
	}
	b, err := sealing.ParseBlob(raw)
	if err != nil {
		return nil, err
	}
	payload, err := s.roots.open(ctx, b)
	if err != nil {
		return nil, err
	}
	defer payload.Wipe()
	h := &b.Claimed
	if h.Kind != sealing.KindSecret || h.App != upgradeApp || h.Name != requestFile || payload.Len() != askedSize {
		return nil, &sealing.Error{Code: api.CodeRenamed, Field: "name", Detail: requestFile + " contains another blob of this machine"}
	}
	a := &asked{tpmSecret: h.TPMSecret}
	err = payload.Use(func(p []byte) (err error) {
		a.request.Challenge = transfer.Challenge(p[:transfer.ChallengeSize])
		a.request.StoreKey = sealing.StoreKey(p[transfer.ChallengeSize:])
		a.seed, err = secret.Take(bytes.Clone(p[askedSize-message.SeedSize:]))
		return err
	})
	if err == nil {
		a.request.Public, err = message.PublicOf(a.seed)
	}
	return a, err
}

// Accept takes over the store that the answer contains, which key must have signed, and returns
// how many blobs it wrote. Again says that the answer was accepted before. The files of the
// predecessor stay, and open on its machine, until [Store.Finish].
func (s *Store) Accept(ctx context.Context, answer *transfer.Answer, key sealing.StoreKey) (written int, again bool, err error) {
	ctx, err = s.begin(ctx)
	if err != nil {
		return 0, false, err
	}
	defer s.end()
	if s.locked == nil {
		u, _, err := s.record(ctx)
		if err == nil && bytes.Equal(u.Accepted, answer.Request[:]) {
			_ = s.config.Files.Remove(requestFile) // a crash left it
			return 0, true, nil
		}
	}
	// A crash while a machine without a store accepted left blobs and no manifest. Its request is
	// still there, and nothing of these blobs is used.
	if err := s.successor(); err != nil && sealing.CodeOf(err) != api.CodeManifestLost {
		return 0, false, err
	}
	if err := answer.CheckSigner(key); err != nil {
		return 0, false, err
	}
	a, err := s.readAsked(ctx)
	if err != nil {
		return 0, false, err
	}
	defer a.seed.Wipe()
	if a.request.StoreKey != key {
		return 0, false, &sealing.Error{Code: api.CodeOtherStoreKey, Detail: fmt.Sprintf("the request was made for the store with %s, want %s", a.request.StoreKey, key)}
	}
	t := &taking{writing: &writing{store: s}, asked: a}
	if err := t.run(ctx, answer); err != nil {
		t.abort()
		return 0, false, err
	}
	if err := t.commit(ctx); err != nil {
		return 0, false, err
	}
	s.newKey = false // root has it
	_ = s.config.Files.Remove(requestFile)
	return t.written, false, nil
}

// taking is a store that is taken over.
type taking struct {
	*writing
	asked   *asked
	past    []byte // transfer.Past, if this folder is that of the predecessor
	written int
	record  Upgrade
}

func (t *taking) run(ctx context.Context, answer *transfer.Answer) error {
	id := answer.Request
	t.record.Accepted = id[:]
	err := answer.Open(&t.asked.request, t.asked.seed,
		func(h *transfer.Head) error { return t.begin(ctx, h) },
		func(e *transfer.Entry) error {
			defer e.Payload.Wipe()
			return t.take(ctx, e)
		})
	if err == nil {
		err = t.putRecord(ctx, t.record)
	}
	if err == nil && t.past != nil {
		err = t.putOwn(ctx, pastName, t.past)
	}
	return err
}

// begin makes the manifest to write, with a counter of its own.
func (t *taking) begin(ctx context.Context, h *transfer.Head) (err error) {
	s := t.store
	t.record.ReleaseKey, t.record.Number = h.ReleaseKey, h.Number
	t.to = target{tpmSecret: t.asked.tpmSecret, recipients: h.Recipients, loss: len(h.Recipients) == 0}
	if err := h.Seed.Use(func(seed []byte) error { t.to.key, err = storeKeyOf(bytes.Clone(seed)); return err }); err != nil {
		return err
	}
	if t.to.key.public != t.asked.request.StoreKey {
		return &sealing.Error{Code: api.CodeOtherStoreKey, Detail: "the answer contains another store key than the one that signed it"}
	}
	if s.locked == nil { // its own, which is empty
		t.next = following(s.manifest)
		for _, e := range s.manifest.Entries {
			t.replace(e.Key)
		}
		return nil
	}
	t.next = &sealing.Manifest{Counter: h.Past.Counter}
	raw, err := s.config.Files.Read(manifestFile, sealing.MaxBlob)
	if err == nil {
		t.past = h.Past.Encode()
		err = s.config.Files.WriteDurable(beforeFile, raw)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return &sealing.Error{Code: api.CodeInterrupted, Detail: "keep the manifest of the predecessor as " + beforeFile, Err: err}
	}
	err = t.newCounter(ctx, h.Generation)
	t.next.Retired = nil // it stays until root is sure: see Finish
	return err
}

func (t *taking) take(ctx context.Context, e *transfer.Entry) error {
	if e.App.Name == upgradeApp.Name {
		return &sealing.Error{Code: api.CodeMalformedMessage, Detail: "the answer contains a blob under a name that no app can have"}
	}
	h := sealing.Header{Kind: e.Kind, App: e.App, Name: e.Name, AssociatedData: e.AssociatedData, Digests: e.Digests}
	if err := t.put(ctx, h, e.Payload); err != nil {
		return err
	}
	t.mark(h.Key(), e.Unproven)
	t.written++
	return nil
}
