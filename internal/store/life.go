// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Report says what an operation over the whole store did.
type Report struct {
	Written  int              // blobs that were sealed again
	Kept     []Kept           // blobs that did not open and were left as they are
	StoreKey sealing.StoreKey // that signs from now on
	NewKey   bool             // whether it replaced another: root has to keep the new one
}

// Kept is a blob that was left as it is.
type Kept struct {
	sealing.Key
	Err error // reason why it does not open
}

// Rewrap seals every blob again to the machine as it is now. After the firmware's TCB
// was raised, the old TCB's key opens each once more. All files are written before
// the manifest makes the new ones current; a crash at any step leaves the old ones or
// the new ones. Blobs that do not open stay as they are and are reported.
//
// An attacker who copied the old files can still open the copies with the old firmware.
// [Store.Rotate] gives an app a root that is in no copy.
func (s *Store) Rewrap(ctx context.Context) (Report, error) {
	ctx, err := s.ready(ctx)
	if err != nil {
		return Report{}, err
	}
	defer s.end()
	// The TCB may have been raised since the start, without a reboot.
	if err := s.roots.read(ctx); err != nil {
		return Report{}, err
	}
	return s.rewrite(ctx, func(t *writing) (Report, error) {
		if err := t.ensureTPM(ctx); err != nil {
			return Report{}, err
		}
		return t.again(ctx, s.roots.opener(ctx))
	})
}

// ChangeRecipients seals every blob again to other recovery recipients, for now and
// for blobs to come. Without recipients the loss must be accepted as in [Config].
// Identities of the old recipients open copies of the old files as before. Such a copy
// contains the store key, so if a recipient goes, the store gets a new one.
func (s *Store) ChangeRecipients(ctx context.Context, recipients []string, loseOnHardwareChange bool) (Report, error) {
	if len(recipients) == 0 && !loseOnHardwareChange {
		return Report{}, &sealing.Error{Code: api.CodeNoRecovery, Detail: "no recovery recipient: name one, or acknowledge that another chip loses every secret"}
	}
	if err := checkRecipients(recipients); err != nil {
		return Report{}, err
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return Report{}, err
	}
	defer s.end()
	if err := s.frozen(ctx); err != nil {
		return Report{}, err
	}
	return s.rewrite(ctx, func(t *writing) (Report, error) {
		if err := t.setRecipients(s.header.Recipients(), recipients); err != nil {
			return Report{}, err
		}
		return t.again(ctx, s.roots.opener(ctx))
	})
}

func checkRecipients(recipients []string) error {
	if len(recipients) > sealing.MaxRecipients {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "slots", Detail: fmt.Sprintf("%d recipients, at most %d", len(recipients), sealing.MaxRecipients)}
	}
	for i, r := range recipients {
		if _, err := sealing.ParseRecipient(r); err != nil {
			return &sealing.Error{Code: api.CodeInvalidValue, Field: "slots", Detail: fmt.Sprintf("recovery recipient %d", i+1), Err: err}
		}
	}
	return nil
}

// setRecipients gives the target other recipients than it had, and a new store key if one
// of the old ones goes.
func (t *writing) setRecipients(old, recipients []string) (err error) {
	t.to.recipients, t.to.loss = slices.Clone(recipients), len(recipients) == 0
	if slices.ContainsFunc(old, func(r string) bool { return !slices.Contains(recipients, r) }) {
		t.dropKey()
		t.to.key, err = newStoreKey()
	}
	return err
}

// RotateStoreKey gives the store a new key and signs everything with it. From then on
// nothing that the old key signed is recovered. Blobs that do not open keep the old
// signature and are reported: what the store cannot open it does not sign.
func (s *Store) RotateStoreKey(ctx context.Context) (Report, error) {
	ctx, err := s.ready(ctx)
	if err != nil {
		return Report{}, err
	}
	defer s.end()
	if err := s.frozen(ctx); err != nil {
		return Report{}, err
	}
	return s.rewrite(ctx, func(t *writing) (r Report, err error) {
		if t.to.key, err = newStoreKey(); err != nil {
			return Report{}, err
		}
		return t.again(ctx, s.roots.opener(ctx))
	})
}

// rewrite makes the change that f makes, and returns its report if it was made.
func (s *Store) rewrite(ctx context.Context, f func(*writing) (Report, error)) (report Report, err error) {
	before := s.key
	err = s.changeAlways(ctx, func(t *writing) (err error) {
		report, err = f(t)
		return err
	})
	if err != nil {
		return Report{}, err
	}
	report.StoreKey, report.NewKey = s.key.public, s.key != before
	return report, nil
}

// again writes every entry that open opens again.
func (t *writing) again(ctx context.Context, open opener) (Report, error) {
	return t.anew(ctx, open, func(_ *sealing.Header, payload *secret.Secret) (*secret.Secret, error) { return payload, nil })
}

// anew writes every entry that open opens again, with the payload that change makes of it.
// Change wipes the payload that it is given if it returns another one, or an error.
func (t *writing) anew(ctx context.Context, open opener, change func(*sealing.Header, *secret.Secret) (*secret.Secret, error)) (Report, error) {
	var report Report
	for _, e := range slices.Clone(t.next.Entries) {
		h, payload, err := t.store.openEntry(e, open)
		if sealing.CodeOf(err) == api.CodeRootUnavailable {
			return Report{}, err // a temporary error: later it opens
		}
		if err == nil {
			payload, err = change(h, payload)
		}
		if err != nil {
			report.Kept = append(report.Kept, Kept{Key: e.Key, Err: err})
			continue
		}
		err = t.put(ctx, *h, payload)
		payload.Wipe()
		if err != nil {
			return Report{}, err
		}
		report.Written++
	}
	return report, nil
}

// ensureTPM gives the target a TPM secret that opens: a new one if the one in use does not,
// or if there was no TPM before.
func (t *writing) ensureTPM(ctx context.Context) error {
	r := &t.store.roots
	if r.tpm == nil {
		t.to.tpmSecret = nil
		return nil
	}
	if t.to.tpmSecret != nil {
		s, err := r.unsealTPM(ctx, t.to.tpmSecret)
		if err == nil {
			s.Wipe()
			return nil
		}
		if !locksOut(err) {
			return err
		}
	}
	var err error
	t.to.tpmSecret, err = r.newTPMSecret(ctx)
	return err
}

// Rotate gives an app a new version of its root, which Derive uses from then on, and
// seals everything of the app again under new keys. Older versions stay until
// [Store.Retire], so that the app can move what it protected with them.
func (s *Store) Rotate(ctx context.Context, app string) (version uint32, err error) {
	ctx, a, err := s.beginApp(ctx, app)
	if err != nil {
		return 0, err
	}
	defer s.end()
	if len(a.versions) >= sealing.MaxVersions || a.current() == math.MaxUint32 {
		return 0, &sealing.Error{Code: api.CodeInvalidValue, Detail: fmt.Sprintf("app %s has %d versions of its root; retire old ones first", app, len(a.versions))}
	}
	version = a.current() + 1
	err = s.change(ctx, func(t *writing) error {
		payload, err := addVersion(a.payload, version)
		if err != nil {
			return err
		}
		defer payload.Wipe()
		if err := t.put(ctx, a.header, payload); err != nil {
			return err
		}
		for _, e := range slices.Clone(t.next.Entries) {
			if e.App != app || e.Kind != sealing.KindSecret {
				continue
			}
			h, payload, err := s.openEntry(e, s.roots.opener(ctx))
			if locksOut(err) || sealing.CodeOf(err) == api.CodeMissing {
				continue // it stays as it is; rotation is about the root
			}
			if err != nil {
				return err
			}
			err = t.put(ctx, *h, payload)
			payload.Wipe()
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// Retire forgets one version of an app's root other than the current one. What was
// derived from it cannot be derived again.
func (s *Store) Retire(ctx context.Context, app string, version uint32) error {
	ctx, a, err := s.beginApp(ctx, app)
	if err != nil {
		return err
	}
	defer s.end()
	switch {
	case !slices.Contains(a.versions, version):
		return &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("app %s has no version %d of its root", app, version)}
	case version == a.current():
		return &sealing.Error{Code: api.CodeInvalidValue, Detail: fmt.Sprintf("version %d is the current root of app %s; rotate first", version, app)}
	}
	return s.change(ctx, func(t *writing) error {
		payload, err := dropVersion(a.payload, version)
		if err != nil {
			return err
		}
		defer payload.Wipe()
		if err := t.put(ctx, a.header, payload); err != nil {
			return err
		}
		if len(a.versions) == 2 { // only the current one is left
			t.mark(a.header.Key(), false)
		}
		return nil
	})
}

// AcceptRollback makes an older state of the files, or of the TPM, the current one,
// as root decides. From then on a new counter counts. The store refuses every manifest that
// the old one counted, including the newer ones.
func (s *Store) AcceptRollback(ctx context.Context) error {
	ctx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	if s.refused == nil {
		if s.locked != nil {
			return s.locked
		}
		return &sealing.Error{Code: api.CodeNothingToDo, Detail: "manifest and counter agree: there is no rollback to accept"}
	}
	switch sealing.CodeOf(s.locked) {
	case api.CodeRolledBack, api.CodeCounterBehind, api.CodeCounterLost:
	default:
		return s.locked
	}
	t := &writing{store: s, next: following(s.refused), to: s.target()}
	if err := t.newCounter(ctx, s.highest(ctx, s.refused)); err != nil {
		return err
	}
	if t.to.key == nil { // of version 1
		var err error
		if t.to.key, err = newStoreKey(); err == nil {
			_, err = t.again(ctx, s.roots.opener(ctx))
		}
		if err != nil {
			t.abort()
			return err
		}
	}
	return t.commit(ctx)
}

// highest returns the highest number that manifest m or its counter proves.
func (s *Store) highest(ctx context.Context, m *sealing.Manifest) uint64 {
	if s.roots.tpm == nil || len(m.Counter) == 0 {
		return m.Number
	}
	c, err := s.roots.tpm.ReadCounter(ctx, m.Counter)
	if err != nil || int64(c+m.Base-m.Number) < 0 {
		return m.Number
	}
	return c + m.Base
}
