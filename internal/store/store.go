// SPDX-License-Identifier: Apache-2.0

// Package store keeps the sealed blobs of one machine: it derives the keys that slots rest
// on, writes and opens blobs, and counts its writings against a rollback. Package sealing
// has the format of the blobs.
//
// A [Store] has one blob for each app, with the versions of the app's root secret, and one
// for each secret that an app stored. A sealed manifest lists them all. Each change writes
// new files, then the manifest, and then the counter in the TPM follows. After a crash at
// any step the store opens in the state before the change or after it.
//
// What a store cannot open it does not delete. It stays locked and says why, and a recovery
// identity opens it on any machine.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/sealing"
)

// Config says what a store uses.
type Config struct {
	Files    Files
	Platform Platform // nil if the machine derives no keys
	TPM      TPM      // nil if absent: then nothing detects a rollback
	Quota    Quota    // quota of each app

	// Recipients are recovery recipients (age X25519, "age1…"). They are used when
	// the store is made, and from then on taken from its authenticated manifest. An
	// attacker who can edit a configuration file must not be able to redirect the recovery.
	// [Store.ChangeRecipients] changes them.
	Recipients []string

	// ReleaseKey returns the release key that a store pins when it is made, the zero key for
	// none. It is not called for a store that exists: an attacker who can edit a configuration
	// file must not be able to name successors. Nil: none.
	ReleaseKey func() (transfer.ReleaseKey, error)

	// RetryPause is the least time between two attempts to open a store that is locked
	// because a device was busy or failing; 5 s if zero. Requests to the SNP firmware are
	// scarce, and callers that ask again and again must not use them up.
	RetryPause time.Duration

	// LoseOnHardwareChange accepts, if there are no Recipients, that another chip, a
	// cleared TPM or another launch measurement loses every secret. Stopping and
	// starting a VM on a cloud is enough for another chip.
	LoseOnHardwareChange bool
}

// Caller is the app that asks for its keys, as the agent established it.
type Caller struct {
	App    sealing.App
	Digest evidence.Digest // digest of the app at its last measurement; zero if it was not measured
}

// Store has the sealed blobs of one machine. Its methods may be called from any
// goroutine; they run one at a time.
type Store struct {
	config Config
	turn   *turn.Queue // of one; its holder owns everything below
	leave  func()      // passes the turn on
	roots  roots

	manifest *sealing.Manifest // nil while locked
	header   sealing.Header    // of the manifest's blob, authenticated
	key      *storeKey         // from the manifest; nil while locked, or if the manifest is of version 1
	upgraded *Report           // of the upgrade from version 1, if this process made it
	newKey   bool              // whether this process made key, so that root may not know it yet
	opened   opened            // app roots, which are read without the turn
	locked   error             // reason why nothing can be opened; nil while ready
	refused  *sealing.Manifest // manifest that opened and does not match the counter
	unsure   bool              // whether a write failed: then the next operation first reads the disk again
	orphans  int               // blob files that the manifest does not list
	tried    time.Time         // when load ended

	remembered *remembered // record of upgrades that was read last; nil: none was
	closed     bool
}

// Open opens the store in c.Files, or makes one if there is none. A store whose secrets
// cannot be opened is not an error here: it stays locked and [Store.State] says why. Open
// fails only for a configuration that cannot work.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Files == nil {
		return nil, errors.New("open the store of sealed blobs: no directory")
	}
	if len(c.Recipients) > sealing.MaxRecipients {
		return nil, fmt.Errorf("open the store of sealed blobs: %d recovery recipients, at most %d", len(c.Recipients), sealing.MaxRecipients)
	}
	for i, r := range c.Recipients {
		if _, err := sealing.ParseRecipient(r); err != nil {
			return nil, fmt.Errorf("open the store of sealed blobs: recovery recipient %d: %w", i+1, err)
		}
	}
	c.Quota.Secrets = cmp.Or(max(c.Quota.Secrets, 0), 64)
	c.Quota.Bytes = cmp.Or(max(c.Quota.Bytes, 0), 1<<20)
	c.RetryPause = cmp.Or(max(c.RetryPause, 0), 5*time.Second) // longer than hosts make a request wait as a rule
	s := &Store{config: c, turn: turn.New(turn.Options{Waiting: maxWaiting})}
	s.roots = roots{platform: c.Platform, tpm: c.TPM, files: c.Files}
	s.load(ctx)
	return s, nil
}

// Format prints a placeholder under every verb. With a verb that does not match, fmt
// follows pointers, and one leads to the authorization value of the counter.
func (s *Store) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[store of sealed blobs]") }

// errClosed means that the store was closed.
var errClosed = errors.New("the store of sealed blobs is closed")

// maxWaiting is how many operations of one party wait for their turn.
const maxWaiting = 128

// longestOperation is how long an operation may take once it has its turn. A host may delay
// each request for a key of the firmware by a minute.
const longestOperation = 10 * time.Minute

// begin waits for the turn, as long as ctx allows. It returns the context of the operation,
// which does not end with ctx: a caller who leaves in the middle must not undo what other
// callers need too, such as reading the store again. If a write failed before, begin loads
// what that left, with the same function as at the start. The caller ends its turn with end.
func (s *Store) begin(ctx context.Context) (context.Context, error) {
	leave, err := s.turn.Enter(ctx, 1)
	if err != nil {
		return nil, err
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestOperation)
	s.leave = func() { cancel(); leave() }
	if s.closed {
		s.end()
		return nil, errClosed
	}
	// A device that was busy or absent may be back.
	if s.unsure || sealing.CodeOf(s.locked) == api.CodeRootUnavailable && time.Since(s.tried) >= s.config.RetryPause {
		s.load(own)
	}
	return own, nil
}

// Turns returns what the queue of operations counts.
func (s *Store) Turns() turn.Stats { return s.turn.Stats() }

func (s *Store) end() {
	leave := s.leave
	s.leave = nil
	leave()
}

// ready begins an operation that needs an open store.
func (s *Store) ready(ctx context.Context) (context.Context, error) {
	ctx, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if s.locked != nil {
		defer s.end()
		return nil, s.locked
	}
	return ctx, nil
}

// Close wipes every key in memory. Operations fail from then on.
func (s *Store) Close() {
	closing := turn.With(context.Background(), turn.Who{Class: turn.Start, Party: "close"})
	leave, err := s.turn.Enter(closing, 1)
	if err != nil { // it does not happen: this context never ends, and nothing else of its party waits
		return
	}
	defer leave()
	s.forget()
	s.roots.wipe()
	s.closed = true
}

// forget wipes what load finds again.
func (s *Store) forget() {
	s.opened.forget()
	s.key.wipe()
	s.manifest, s.refused, s.header, s.key = nil, nil, sealing.Header{}, nil
}

// load reads the manifest and compares it with the counter. It sets locked.
func (s *Store) load(ctx context.Context) {
	s.forget()
	s.unsure = false
	defer func() { s.tried = time.Now() }()
	s.locked = coded("open the store", s.tryLoad(ctx))
	s.opened.use(s.locked == nil)
}

func (s *Store) tryLoad(ctx context.Context) error {
	if err := s.roots.read(ctx); err != nil {
		return err
	}
	raw, err := s.config.Files.Read(manifestFile, sealing.MaxBlob)
	if errors.Is(err, fs.ErrNotExist) {
		return s.first(ctx)
	}
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	o, err := s.openManifest(raw, s.roots.opener(ctx))
	if err != nil {
		return err
	}
	s.key = o.key
	if err := s.checkCounter(ctx, o.manifest, raw); err != nil {
		s.refused, s.header = o.manifest, o.header
		return err
	}
	s.tidy(ctx, o.manifest)
	if err := s.countOrphans(o.manifest); err != nil {
		return err
	}
	s.manifest, s.header = o.manifest, o.header
	if o.key == nil {
		return s.upgrade(ctx)
	}
	return nil
}

// openedManifest is a manifest with what its blob says.
type openedManifest struct {
	manifest *sealing.Manifest
	header   sealing.Header
	key      *storeKey // nil in version 1
}

// openManifest parses raw and opens it with open.
func (s *Store) openManifest(raw []byte, open opener) (*openedManifest, error) {
	b, err := sealing.ParseBlob(raw)
	if err != nil {
		return nil, inManifest(err)
	}
	payload, err := open(b)
	if err != nil {
		return nil, inManifest(err)
	}
	defer payload.Wipe()
	if b.Claimed.Kind != sealing.KindManifest {
		return nil, &sealing.Error{Code: api.CodeRenamed, Field: "kind", Detail: fmt.Sprintf("%s contains a blob of kind %s", manifestFile, b.Claimed.Kind)}
	}
	o := &openedManifest{header: b.Claimed}
	err = payload.Use(func(p []byte) error { return o.parse(b, p) })
	if err != nil {
		o.key.wipe()
		return nil, inManifest(err)
	}
	return o, nil
}

// parse reads the payload p of b.
func (o *openedManifest) parse(b *sealing.Blob, p []byte) error {
	m, seed, err := sealing.ParseManifest(b.Version, p)
	if err != nil {
		return err
	}
	o.manifest = m
	if m.Number != b.Claimed.Generation {
		return &sealing.Error{Code: api.CodeMalformedBlob, Field: "generation", Detail: "header and payload of the manifest name different numbers"}
	}
	if b.Version == 1 {
		return nil
	}
	if o.key, err = storeKeyOf(seed); err == nil && o.key.public != b.Sender.Key {
		err = &sealing.Error{Code: api.CodeMalformedBlob, Field: "signature", Detail: "the manifest contains another store key than the one that it names"}
	}
	return err
}

// inManifest says that err is about the manifest.
func inManifest(err error) error {
	e, ok := errors.AsType[*sealing.Error](err)
	if !ok {
		return fmt.Errorf("open the manifest: %w", err)
	}
	c := *e
	c.Detail = "manifest of the store: " + c.Detail
	return &c
}

// first makes a new store in an empty directory.
func (s *Store) first(ctx context.Context) error {
	blobs, err := s.blobFiles()
	if err != nil {
		return err
	}
	if len(blobs) > 0 {
		return &sealing.Error{Code: api.CodeManifestLost, Detail: fmt.Sprintf("there are sealed blobs and no %s, which says which of them are current; put it back", manifestFile)}
	}
	if s.roots.kind() == 0 {
		return &sealing.Error{Code: api.CodeNoUsableSlot, Detail: "this machine has neither keys that SNP firmware derives nor a TPM, so nothing could be opened again"}
	}
	to := target{recipients: s.config.Recipients, loss: s.config.LoseOnHardwareChange}
	if len(to.recipients) == 0 && !to.loss {
		return &sealing.Error{Code: api.CodeNoRecovery, Detail: "no recovery recipient is configured: another chip, as after stop and start on a cloud, would lose every secret; name an age recipient, or acknowledge the loss"}
	}
	if s.roots.tpm != nil {
		if to.tpmSecret, err = s.roots.newTPMSecret(ctx); err != nil {
			return err
		}
	}
	if to.key, err = newStoreKey(); err != nil {
		return err
	}
	key, err := s.firstReleaseKey()
	if err != nil {
		to.key.wipe()
		return err
	}
	t := &writing{store: s, next: &sealing.Manifest{}, to: to}
	if err = t.newCounter(ctx, 0); err == nil && !key.IsZero() {
		err = t.putRecord(ctx, Upgrade{ReleaseKey: key.String()})
	}
	if err != nil {
		t.abort()
		return err
	}
	return t.commit(ctx)
}

// firstReleaseKey returns the release key that a new store pins.
func (s *Store) firstReleaseKey() (transfer.ReleaseKey, error) {
	if s.config.ReleaseKey == nil {
		return transfer.ReleaseKey{}, nil
	}
	return s.config.ReleaseKey()
}

// upgrade gives a store of version 1 a store key, and seals everything again. The machine
// opened the manifest itself, so an attacker who puts files of version 1 in the place of a
// later store gains no more than with any other older state. Blobs that do not open stay
// as they are: they have no sender.
func (s *Store) upgrade(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // it is the work of the agent, not of the caller that came first
	report, err := s.rewrite(ctx, func(t *writing) (r Report, err error) {
		if t.to.key, err = newStoreKey(); err != nil {
			return Report{}, err
		}
		return t.again(ctx, s.roots.opener(ctx))
	})
	if err != nil {
		s.manifest = nil
		return &sealing.Error{Code: api.CodeRootUnavailable, Detail: "seal a store of version 1 again in version 2", Err: err}
	}
	s.upgraded = &report
	return nil
}

// countOrphans counts blobs that the manifest does not list: a crash left them before they
// were listed, or they were newer than a manifest that root accepted. They stay.
func (s *Store) countOrphans(m *sealing.Manifest) error {
	files, err := s.blobFiles()
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(m.Entries))
	for _, e := range m.Entries {
		listed[blobFile(e.ID)] = true
	}
	s.orphans = 0
	for _, file := range files {
		if !listed[file] {
			s.orphans++
		}
	}
	return nil
}
