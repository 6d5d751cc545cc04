// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

// Upgrade is what the store remembers of going over to another image. It is a sealed blob of
// the store, so an attacker who writes the disk does not change it unnoticed.
type Upgrade struct {
	ReleaseKey string         `json:"releaseKey,omitzero"` // transfer.ReleaseKey in text; empty: none is pinned
	Number     uint64         `json:"number,omitzero"`     // of the release that the store came from; 0: from none
	Prepared   *Preparation   `json:"prepared,omitzero"`   // nil: no successor is named
	Answered   evidence.Bytes `json:"answered,omitzero"`   // id of the request that was answered: nothing is changed here since
	Accepted   evidence.Bytes `json:"accepted,omitzero"`   // id of the request whose answer made this store
}

// Preparation is one upgrade that root prepared. It is used once.
type Preparation struct {
	Challenge evidence.Bytes `json:"challenge"` // 32 random bytes
	Number    uint64         `json:"number"`    // of the release
	Expires   uint64         `json:"expires"`   // seconds since 1970, by the clock of this machine
	Policy    string         `json:"policy"`    // that evidence of the successor must meet
}

// Blobs of the agent itself. No app can have this name, since declarations refuse it.
var upgradeApp = sealing.App{Name: ".upgrade", Unit: "agentd.service", User: "root"}

const (
	recordName = "record"      // [Upgrade]
	pastName   = "predecessor" // transfer.Past, until root is sure of the successor
)

func upgradeKey(name string) sealing.Key {
	return sealing.Key{App: upgradeApp.Name, Kind: sealing.KindSecret, Name: name}
}

// maxUpgrade is the size of the largest record: a policy, and little more.
const maxUpgrade = 2 * transfer.MaxRelease

// remembered is the record of a blob, so that no change reads it anew.
type remembered struct {
	id     sealing.ID
	record Upgrade
}

// record returns the record of an open store, and whether nothing tells who wrote it.
func (s *Store) record(ctx context.Context) (u Upgrade, unproven bool, err error) {
	e := s.manifest.Find(upgradeKey(recordName))
	if e == nil {
		return Upgrade{}, false, nil
	}
	if s.remembered != nil && s.remembered.id == e.ID {
		return s.remembered.record, e.Unproven, nil
	}
	_, payload, err := s.openEntry(*e, s.roots.opener(ctx))
	if err != nil {
		return Upgrade{}, false, fmt.Errorf("open the record of upgrades: %w", err)
	}
	defer payload.Wipe()
	err = payload.Use(func(b []byte) error { return strictjson.Decode(b, maxUpgrade, &u) })
	if err != nil {
		return Upgrade{}, false, &sealing.Error{Code: api.CodeMalformedBlob, Field: "payload", Detail: "the record of upgrades", Err: err}
	}
	s.remembered = &remembered{e.ID, u}
	return u, e.Unproven, nil
}

// putRecord writes the record in t.
func (t *writing) putRecord(ctx context.Context, u Upgrade) error {
	b, err := strictjson.Encode(u)
	if err != nil {
		return err
	}
	return t.putOwn(ctx, recordName, b)
}

// putOwn writes a blob of the agent itself, and clears b.
func (t *writing) putOwn(ctx context.Context, name string, b []byte) error {
	payload, err := secret.Take(b)
	if err != nil {
		return err
	}
	defer payload.Wipe()
	return t.put(ctx, sealing.Header{Kind: sealing.KindSecret, App: upgradeApp, Name: name}, payload)
}

// keepRecord makes u the record of the store. Root made it, so nothing about it is unproven.
func (s *Store) keepRecord(ctx context.Context, u Upgrade) error {
	return s.changeAlways(ctx, func(t *writing) error {
		if err := t.putRecord(ctx, u); err != nil {
			return err
		}
		t.mark(upgradeKey(recordName), false)
		return nil
	})
}

// ownRecord returns the record for root to change. Of a record of which nothing tells who wrote it,
// release key and number are left out: an attacker may have chosen them, and what root writes counts
// as root's. Lost says that it does not open, so that root makes it anew. An error that may pass,
// such as that of a device, is returned: it must not cost the record.
func (s *Store) ownRecord(ctx context.Context) (u Upgrade, lost bool, err error) {
	u, unproven, err := s.record(ctx)
	switch code := sealing.CodeOf(err); {
	case err != nil && (code == "" || code == api.CodeRootUnavailable || ctx.Err() != nil):
		return Upgrade{}, false, err
	case err != nil:
		return Upgrade{}, true, nil
	case unproven:
		u = Upgrade{Prepared: u.Prepared, Answered: u.Answered}
	}
	return u, false, nil
}

// frozen refuses a change of a store that was handed over: the successor would not have it.
func (s *Store) frozen(ctx context.Context) error {
	u, _, err := s.record(ctx)
	if err == nil && len(u.Answered) > 0 {
		err = &sealing.Error{Code: api.CodeHandedOver, Detail: "the roots of this store went to a successor, which would not have this change"}
	}
	return err
}

// Changeable returns why no change would be made now, nil if one would.
func (s *Store) Changeable(ctx context.Context) error {
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	return s.frozen(ctx)
}

// PinReleaseKey makes key the one that signs releases. A preparation under another key ends.
func (s *Store) PinReleaseKey(ctx context.Context, key transfer.ReleaseKey) error {
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	u, _, err := s.ownRecord(ctx)
	if err != nil {
		return err
	}
	if len(u.Answered) > 0 {
		return s.frozen(ctx)
	}
	u.ReleaseKey, u.Prepared = key.String(), nil
	return s.keepRecord(ctx, u)
}

// Outlook says what would go over to a successor now.
type Outlook struct {
	Entries int    // blobs that go over
	Bytes   int    // their payloads
	Left    []Kept // blobs that do not open, and stay behind
}

// Prepare names successors, in the place of those that were named before. Check sees the record
// of before: it verifies the release under the pinned key. A store whose own upgrade is not finished
// names none: a later upgrade would not remove what the predecessor left, and its image could go back
// for ever.
func (s *Store) Prepare(ctx context.Context, check func(Upgrade) (Preparation, error)) (transfer.Offer, Outlook, error) {
	var offer transfer.Offer
	ctx, err := s.ready(ctx)
	if err != nil {
		return offer, Outlook{}, err
	}
	defer s.end()
	u, unproven, err := s.record(ctx)
	if err != nil {
		return offer, Outlook{}, err
	}
	switch {
	case len(u.Answered) > 0:
		return offer, Outlook{}, s.frozen(ctx)
	case u.ReleaseKey == "":
		return offer, Outlook{}, &sealing.Error{Code: api.CodeNoReleaseKey, Detail: "prepare an upgrade: the store pinned no release key"}
	case unproven:
		return offer, Outlook{}, &sealing.Error{Code: api.CodeNoReleaseKey, Detail: "prepare an upgrade: the release key came from a recovery that could not tell who wrote it"}
	}
	p, err := check(u)
	if err != nil {
		return offer, Outlook{}, err
	}
	if s.manifest.Find(upgradeKey(pastName)) != nil {
		return offer, Outlook{}, &sealing.Error{Code: api.CodeUpgradeUnfinished, Detail: "prepare an upgrade: what the predecessor of this store left is still in this folder and in the TPM"}
	}
	out, err := s.outlook(ctx)
	if err != nil {
		return offer, Outlook{}, err
	}
	rand.Read(offer.Challenge[:]) // never fails
	p.Challenge = offer.Challenge[:]
	u.Prepared = &p
	if err := s.keepRecord(ctx, u); err != nil {
		return offer, Outlook{}, err
	}
	offer.StoreKey = s.key.public
	return offer, out, nil
}

// travels lists the entries that go over: all but those of upgrades themselves.
func (s *Store) travels() (out []sealing.Entry) {
	for _, e := range s.manifest.Entries {
		if e.App != upgradeApp.Name {
			out = append(out, e)
		}
	}
	return out
}

// outlook opens everything that would go over, and refuses more than an answer can have: once the
// store was handed over, it is too late to have apps discard something.
func (s *Store) outlook(ctx context.Context) (out Outlook, err error) {
	u, _, err := s.record(ctx)
	if err != nil {
		return Outlook{}, err
	}
	head := s.head(u, 0)
	defer head.Wipe()
	size := head.Size()
	for _, e := range s.travels() {
		h, payload, err := s.openEntry(e, s.roots.opener(ctx))
		if sealing.CodeOf(err) == api.CodeRootUnavailable {
			return Outlook{}, err
		}
		if err != nil {
			out.Left = append(out.Left, Kept{Key: e.Key, Err: err})
			continue
		}
		out.Entries++
		out.Bytes += payload.Len()
		size += entryOver(e, h, payload).Size(payload.Len())
		payload.Wipe()
	}
	if size > transfer.MaxContent || out.Entries > sealing.MaxEntries-2 { // the successor has two more
		return Outlook{}, &sealing.Error{Code: api.CodeTransferTooLarge, Detail: fmt.Sprintf("%d blobs would go over, with %d bytes, at most %d", out.Entries, size, transfer.MaxContent)}
	}
	return out, nil
}

// head returns what an answer says of the store, without the store key.
func (s *Store) head(u Upgrade, number uint64) *transfer.Head {
	h := &transfer.Head{Generation: s.manifest.Number, Recipients: s.header.Recipients(), ReleaseKey: u.ReleaseKey, Number: number,
		Past: transfer.Past{Counter: bytes.Clone(s.manifest.Counter), TPMSecret: s.header.TPMSecret}}
	for _, e := range s.manifest.Entries {
		h.Past.Blobs = append(h.Past.Blobs, e.ID)
	}
	return h
}

// entryOver returns an entry as it goes over.
func entryOver(e sealing.Entry, h *sealing.Header, payload *secret.Secret) *transfer.Entry {
	return &transfer.Entry{Kind: h.Kind, App: h.App, Name: h.Name, AssociatedData: h.AssociatedData,
		Digests: h.Digests, Unproven: e.Unproven, Payload: payload}
}

// Preparing returns the preparation that a request is for, and whether that very request was
// answered before. The caller verifies the evidence by it.
func (s *Store) Preparing(ctx context.Context, r *transfer.Request) (p Preparation, again bool, err error) {
	ctx, err = s.ready(ctx)
	if err != nil {
		return p, false, err
	}
	defer s.end()
	return s.preparing(ctx, r)
}

func (s *Store) preparing(ctx context.Context, r *transfer.Request) (p Preparation, again bool, err error) {
	u, unproven, err := s.record(ctx)
	if err != nil {
		return p, false, err
	}
	id := r.ID()
	switch {
	case u.Prepared == nil || unproven:
		return p, false, &sealing.Error{Code: api.CodeNoPreparation, Detail: "answer a request for an upgrade: no successor is named here"}
	case !bytes.Equal(u.Prepared.Challenge, r.Challenge[:]) || r.StoreKey != s.key.public:
		return p, false, &sealing.Error{Code: api.CodeOtherPreparation, Detail: "the request is for another preparation, or for another store, than the last one here"}
	case len(u.Answered) > 0 && !bytes.Equal(u.Answered, id[:]):
		return p, false, &sealing.Error{Code: api.CodePreparationUsed, Detail: fmt.Sprintf("the roots went to the successor with request %x, and this is request %x", []byte(u.Answered), id[:])}
	}
	return *u.Prepared, len(u.Answered) > 0, nil
}

// HandOver answers a request whose evidence the caller verified by the preparation with that
// challenge. From then on nothing is changed here, and only the same request is answered again.
// That is on disk before the answer is made: a crash leaves no answer that is not remembered.
func (s *Store) HandOver(ctx context.Context, r *transfer.Request) ([]byte, Outlook, error) {
	ctx, err := s.ready(ctx)
	if err != nil {
		return nil, Outlook{}, err
	}
	defer s.end()
	p, again, err := s.preparing(ctx, r)
	if err != nil {
		return nil, Outlook{}, err
	}
	out, err := s.outlook(ctx)
	if err != nil {
		return nil, Outlook{}, err
	}
	if !again {
		u, _, err := s.record(ctx)
		if err != nil {
			return nil, Outlook{}, err
		}
		id := r.ID()
		u.Answered = id[:]
		if err := s.keepRecord(ctx, u); err != nil {
			return nil, Outlook{}, err
		}
	}
	b, err := s.answer(ctx, r, p.Number, out)
	return b, out, err
}

// answer seals the store to the key of r.
func (s *Store) answer(ctx context.Context, r *transfer.Request, number uint64, o Outlook) ([]byte, error) {
	u, _, err := s.record(ctx)
	if err != nil {
		return nil, err
	}
	sealer, err := transfer.NewSealer(r, o.Entries)
	if err != nil {
		return nil, err
	}
	head := s.head(u, number)
	seed, err := s.key.seed()
	if err != nil {
		return nil, err
	}
	defer clear(seed[:])
	if head.Seed, err = secret.Take(bytes.Clone(seed[:])); err != nil {
		return nil, err
	}
	defer head.Wipe()
	if err := sealer.Head(head); err != nil {
		return nil, err
	}
	for _, e := range s.travels() {
		if err := s.sealEntry(ctx, sealer, e); err != nil {
			return nil, err
		}
	}
	a, err := sealer.Answer()
	if err != nil {
		return nil, err
	}
	if a.Signature, err = s.key.signMessage(a.Message()); err != nil {
		return nil, err
	}
	return a.Encode(), nil
}

// sealEntry adds an entry to the answer, if it opens.
func (s *Store) sealEntry(ctx context.Context, sealer *transfer.Sealer, e sealing.Entry) error {
	h, payload, err := s.openEntry(e, s.roots.opener(ctx))
	if sealing.CodeOf(err) == api.CodeRootUnavailable {
		return err
	}
	if err != nil {
		return nil // the outlook lists it
	}
	defer payload.Wipe()
	return sealer.Entry(entryOver(e, h, payload))
}

// UpgradeState is what the store can say of upgrades.
type UpgradeState struct {
	Upgrade
	Unproven bool   // whether nothing tells who wrote the record
	Asked    bool   // whether there is a key of a request that was not accepted yet
	Past     bool   // whether the predecessor can still go back, and root has not finished
	Return   bool   // whether a manifest of before an upgrade is in the folder, of a store that does not open
	Err      error  // why the store does not open, or its record
	StoreKey string // of an open store
}

// UpgradeState returns how far an upgrade is. A store that does not open has no record.
func (s *Store) UpgradeState(ctx context.Context) (out UpgradeState, err error) {
	ctx, err = s.begin(ctx)
	if err != nil {
		return out, err
	}
	defer s.end()
	out.Asked = s.hasFile(requestFile)
	if out.Err = s.locked; s.locked != nil {
		out.Return = s.hasFile(beforeFile)
		return out, nil
	}
	out.StoreKey = s.key.public.String()
	out.Past = s.manifest.Find(upgradeKey(pastName)) != nil
	out.Upgrade, out.Unproven, out.Err = s.record(ctx)
	return out, nil
}

func (s *Store) hasFile(name string) bool {
	_, err := s.config.Files.Read(name, sealing.MaxBlob)
	return !errors.Is(err, fs.ErrNotExist)
}
