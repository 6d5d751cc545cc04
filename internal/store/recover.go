// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Recovery is what root decides about a recovery.
type Recovery struct {
	Identities *Identities       // nil: open only what this machine opens itself
	StoreKey   *sealing.StoreKey // that must have signed what this machine does not open itself, and everything if the manifest is lost; required with Identities

	// TrustWriter opens, in place of StoreKey, what any party with access to the disk may
	// have written: contents that an attacker chose. Every app root gets a new version.
	TrustWriter bool

	// Recipients are those of the store from now on, if the store is locked. They are
	// never taken from files that this machine does not vouch for, and not from the
	// configuration. Without any, LoseOnHardwareChange must be set.
	Recipients           []string
	LoseOnHardwareChange bool

	// AcceptRollback recovers a state that is older or newer than the TPM's counter.
	AcceptRollback bool
}

// Recovered says what a recovery did. What of it rests on the word of the files is in
// the fields that begin with Claimed.
type Recovered struct {
	Report
	Locked            bool          // whether the whole store was recovered, and not single blobs of one that was open
	Generation        uint64        // number of the recovered manifest; 0 if it was lost
	Newest            bool          // whether the TPM's counter says that no newer state was written
	ClaimedRecipients []string      // recipients before, as the files say
	Recipients        []string      // recipients now
	Unproven          bool          // whether content was taken over that any party may have written
	Rotated           []RootVersion // app roots that got a new version because of that
	Secrets           []sealing.Key // stored secrets of which nothing tells who wrote them
}

// RootVersion is a version of the root of an app.
type RootVersion struct {
	App     string
	Version uint32
}

// Recover opens what this machine cannot open itself, and seals everything to this machine:
// after a move to another chip, a cleared TPM, another launch measurement. Blobs that do not
// open stay as they are and are reported. Without identities it salvages what this machine
// opens itself, if only the manifest was lost or damaged.
//
// A recovery recipient is public, so an attacker who writes the disk can make a store that
// opens with the identity, and with more recipients. So what this machine's strongest slot
// does not open must be signed by the store key that root kept.
//
// Without this machine's counter nothing tells how old the recovered state is. If the
// counter detects a rollback, root must accept it first.
func (s *Store) Recover(ctx context.Context, how Recovery) (Recovered, error) {
	if err := how.check(); err != nil {
		return Recovered{}, err
	}
	ctx, err := s.begin(ctx)
	if err != nil {
		return Recovered{}, err
	}
	defer s.end()
	switch {
	case s.refused != nil:
		return Recovered{}, s.locked // it opens already, and root must decide about a rollback
	case sealing.CodeOf(s.locked) == api.CodeRootUnavailable:
		return Recovered{}, s.locked
	case s.locked == nil:
		if err := s.frozen(ctx); err != nil {
			return Recovered{}, err
		}
	}
	r := &recovering{Recovery: how, store: s, writing: &writing{store: s}, unproven: map[sealing.ID]bool{}, entries: map[sealing.Key]bool{}}
	before := s.key
	if err := r.run(ctx); err != nil {
		r.writing.abort()
		return Recovered{}, err
	}
	if err := r.writing.commit(ctx); err != nil {
		return Recovered{}, err
	}
	r.done.StoreKey = s.key.public
	r.done.NewKey = before != nil && s.key != before || before == nil && (how.StoreKey == nil || *how.StoreKey != s.key.public)
	r.done.Recipients = s.header.Recipients()
	return r.done, nil
}

// check refuses what contradicts itself.
func (how Recovery) check() error {
	switch {
	case how.StoreKey != nil && how.TrustWriter:
		return &sealing.Error{Code: api.CodeInvalidValue, Detail: "a store key, and the wish to go without one: give only the store key"}
	case how.Identities != nil && how.StoreKey == nil && !how.TrustWriter:
		return &sealing.Error{Code: api.CodeStoreKeyNeeded, Detail: "any party can seal to a recovery recipient: without the store key that was kept with the identity, nothing tells who wrote this disk"}
	case len(how.Recipients) > 0 && how.LoseOnHardwareChange:
		return &sealing.Error{Code: api.CodeInvalidValue, Detail: "recipients, and the wish to go without: give one of the two"}
	}
	return checkRecipients(how.Recipients)
}

// recovering is a recovery while it runs.
type recovering struct {
	Recovery
	store     *Store
	writing   *writing
	sender    *sealing.StoreKey    // that must have signed; nil if root goes without
	unproven  map[sealing.ID]bool  // blobs that opened although nothing tells who wrote them
	entries   map[sealing.Key]bool // of these, as far as they are taken over
	gathering bool                 // whether the manifest is lost, so that every blob is tried
	doubtful  bool                 // whether nothing tells who wrote the manifest
	done      Recovered
}

func (r *recovering) run(ctx context.Context) error {
	s, t := r.store, r.writing
	open := func(b *sealing.Blob) (*secret.Secret, error) { return r.open(ctx, b) }
	r.done.Locked = s.locked != nil
	if err := r.begin(ctx, open); err != nil {
		return err
	}
	if s.roots.kind() == 0 {
		return &sealing.Error{Code: api.CodeNoUsableSlot, Detail: "this machine has neither keys that SNP firmware derives nor a TPM to seal to"}
	}
	if err := t.ensureTPM(ctx); err != nil {
		return err
	}
	if r.done.Locked {
		if err := t.newCounter(ctx, t.next.Number-1); err != nil {
			return err
		}
	}
	kept := r.done.Kept
	report, err := t.anew(ctx, open, r.distrust)
	if err != nil {
		return err
	}
	if report.Written == 0 && len(report.Kept) > 0 {
		return report.Kept[0].Err
	}
	for key := range r.entries {
		if t.next.Find(key) != nil {
			t.mark(key, true)
		}
	}
	report.Kept = append(report.Kept, kept...)
	r.done.Report = report
	r.done.Unproven = r.doubtful || len(r.entries) > 0 || len(r.done.Rotated) > 0
	return nil
}

// begin finds what to recover, and what to seal it to.
func (r *recovering) begin(ctx context.Context, open opener) error {
	s, t := r.store, r.writing
	r.sender = r.StoreKey
	if s.locked != nil {
		return r.beginLocked(ctx, open)
	}
	// The machine vouches for the manifest, so recipients and store key are known.
	if r.StoreKey != nil && *r.StoreKey != s.key.public {
		return &sealing.Error{Code: api.CodeOtherStoreKey, Detail: fmt.Sprintf("the store of this machine has %s, want %s", s.key.public, r.StoreKey)}
	}
	now := s.header.Recipients()
	if len(r.Recipients) > 0 && !slices.Equal(slices.Compact(slices.Sorted(slices.Values(r.Recipients))), now) || r.LoseOnHardwareChange && len(now) > 0 {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "slots", Detail: "the store is open and has other recipients: change them by themselves, `agentctl key recipients`"}
	}
	r.sender = &s.key.public
	r.done.Generation, r.done.Newest, r.done.ClaimedRecipients = s.manifest.Number, len(s.manifest.Counter) > 0, now
	t.next, t.to = following(s.manifest), s.target()
	return nil
}

// beginLocked finds what to recover in a locked store.
func (r *recovering) beginLocked(ctx context.Context, open opener) error {
	t := r.writing
	if err := r.salvage(ctx, open); err != nil {
		return err
	}
	if len(r.Recipients) == 0 && !r.LoseOnHardwareChange {
		return &sealing.Error{Code: api.CodeRecipientsNeeded, Detail: r.propose()}
	}
	if t.to.key == nil {
		var err error
		if t.to.key, err = newStoreKey(); err != nil {
			return err
		}
	}
	return t.setRecipients(r.done.ClaimedRecipients, r.Recipients)
}

// propose lists the recipients before, for root to choose from.
func (r *recovering) propose() string {
	whose := "the files say, and any party may have written them"
	if len(r.unproven) == 0 {
		whose = "the store says, in a state of unknown age"
	}
	var lines []string
	for _, recipient := range r.done.ClaimedRecipients {
		if r.Identities.has(recipient) {
			recipient += " (of the identity given)"
		}
		lines = append(lines, recipient)
	}
	if len(lines) == 0 {
		lines = []string{"none"}
	}
	return fmt.Sprintf("name the recipients that the store has from now on; before, as %s: %s", whose, strings.Join(lines, ", "))
}

// open opens b: by the strongest slot of this machine, which vouches for it, or in another
// way if its sender is known or root goes without.
func (r *recovering) open(ctx context.Context, b *sealing.Blob) (*secret.Secret, error) {
	roots := &r.store.roots
	payload, machine := roots.open(ctx, b)
	if machine == nil && r.gathering && r.StoreKey != nil {
		// Without a manifest, files that this machine replaced long ago open too.
		if err := b.CheckSender(*r.StoreKey); err != nil {
			payload.Wipe()
			return nil, err
		}
	}
	if machine == nil || !locksOut(machine) && sealing.CodeOf(machine) != api.CodeBadDerivedKey {
		return payload, machine
	}
	if r.Identities == nil && r.StoreKey == nil && !r.TrustWriter {
		return nil, machine
	}
	proven := r.sender != nil
	if proven {
		if err := b.CheckSender(*r.sender); err != nil && !r.TrustWriter {
			return nil, err
		} else if err != nil {
			proven = false
		}
	}
	payload, err := roots.openWeaker(ctx, b)
	if err != nil && r.Identities != nil {
		payload, err = openRecovery(b, r.Identities)
	}
	if err == nil && !proven {
		r.unproven[b.Claimed.ID] = true
	}
	return payload, err
}

// distrust gives an app root a new version if an attacker may know the one of before, and
// notes what nothing is known of.
func (r *recovering) distrust(h *sealing.Header, payload *secret.Secret) (*secret.Secret, error) {
	unproven := r.unproven[h.ID]
	if !unproven && !(r.TrustWriter && r.done.Locked) {
		return payload, nil
	}
	if h.Kind != sealing.KindAppRoot {
		if unproven {
			r.entries[h.Key()] = true
			r.done.Secrets = append(r.done.Secrets, h.Key())
		}
		return payload, nil
	}
	defer payload.Wipe()
	next, version, err := renewed(payload)
	if err != nil {
		return nil, err
	}
	r.entries[h.Key()] = r.entries[h.Key()] || unproven
	r.done.Rotated = append(r.done.Rotated, RootVersion{h.App.Name, version})
	return next, nil
}

// renewed returns the payload of an app root with a new version after the others. If there
// are as many as there can be, the oldest goes.
func renewed(payload *secret.Secret) (next *secret.Secret, version uint32, err error) {
	list, err := versions(payload)
	if err != nil {
		return nil, 0, err
	}
	version = list[len(list)-1] + 1
	if version == 0 {
		return nil, 0, &sealing.Error{Code: api.CodeMalformedBlob, Field: "payload", Detail: "the root has the highest version that there can be"}
	}
	if len(list) == sealing.MaxVersions {
		if payload, err = dropVersion(payload, list[0]); err != nil {
			return nil, 0, err
		}
		defer payload.Wipe()
	}
	next, err = addVersion(payload, version)
	return next, version, err
}

// salvage finds what to recover in a locked store: in the manifest if that opens, otherwise
// by opening every blob.
func (r *recovering) salvage(ctx context.Context, open opener) error {
	raw, err := r.store.config.Files.Read(manifestFile, sealing.MaxBlob)
	if errors.Is(err, fs.ErrNotExist) {
		return r.gather(open)
	}
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	o, err := r.store.openManifest(raw, open)
	if err == nil {
		return r.take(ctx, o)
	}
	// The caller can correct what it gave, but not a damaged manifest.
	switch sealing.CodeOf(err) {
	case api.CodeWrongIdentity, api.CodeNoSender, api.CodeOtherStoreKey, api.CodeRootUnavailable, "":
		return err
	}
	return r.gather(open)
}

// take recovers what manifest o lists. Nothing that the manifest says about keys, counter
// and the TPM's secret is used if nothing tells who wrote it.
func (r *recovering) take(ctx context.Context, o *openedManifest) error {
	t := r.writing
	t.next = following(o.manifest)
	t.next.Retired = nil // it was another TPM's, or is refused already
	r.done.Generation, r.done.ClaimedRecipients = o.manifest.Number, o.header.Recipients()
	if r.unproven[o.header.ID] {
		r.doubtful, t.next.Counter = true, nil
		o.key.wipe()
		return nil
	}
	t.to.key, t.to.tpmSecret = o.key, o.header.TPMSecret
	return r.checkAge(ctx, o.manifest)
}

// checkAge compares the manifest with its counter, if this TPM still has it.
func (r *recovering) checkAge(ctx context.Context, m *sealing.Manifest) error {
	tpm := r.store.roots.tpm
	if tpm == nil || len(m.Counter) == 0 {
		return nil
	}
	c, err := tpm.ReadCounter(ctx, m.Counter)
	switch {
	case errors.Is(err, api.CodeCounterLost):
		return nil // another TPM, or cleared: nothing tells the age
	case err != nil:
		return coded(askCounter, err)
	}
	err = compareCounter(m, c)
	r.done.Newest = err == nil
	if e, ok := errors.AsType[*sealing.Error](err); ok && !r.AcceptRollback {
		e.Detail += "; --accept-rollback recovers this one"
		return e
	}
	return nil
}

// gather lists the newest blob of each key among those that open.
func (r *recovering) gather(open opener) error {
	t := r.writing
	files, err := r.store.blobFiles()
	if err != nil {
		return err
	}
	r.gathering = true
	var found []sealing.Entry
	var last error
	t.next = &sealing.Manifest{}
	for _, file := range files {
		e, h, err := r.store.identify(file, open)
		if err != nil {
			last = err
			r.done.Kept = append(r.done.Kept, Kept{Key: e.Key, Err: fmt.Errorf("%s: %w", file, err)})
			continue
		}
		t.next.Number = max(t.next.Number, e.Generation)
		for _, recipient := range h.Recipients() {
			if !slices.Contains(r.done.ClaimedRecipients, recipient) {
				r.done.ClaimedRecipients = append(r.done.ClaimedRecipients, recipient)
			}
		}
		found = append(found, e)
	}
	if len(found) == 0 {
		if last == nil {
			last = &sealing.Error{Code: api.CodeNotFound, Detail: "found no sealed blob to recover"}
		}
		return last
	}
	t.next.Entries = r.newest(found)
	t.next.Number++
	return nil
}
