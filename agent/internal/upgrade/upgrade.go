// SPDX-License-Identifier: Apache-2.0

// Package upgrade moves the store of sealed blobs to an agent under another launch measurement:
// docs/upgrades.md says how, and what each step withstands. It verifies releases and evidence.
// What is remembered of an upgrade, and what a crash leaves of it, is up to the store.
package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// An Attester makes evidence.
type Attester interface {
	Attest(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([][]byte, error)
}

// Config is what a Service works with. All fields but Roots are required.
type Config struct {
	Store    func(ctx context.Context) (*store.Store, error) // that is open, or locked
	Changed  func(ctx context.Context)                       // called after each attempt to change the store
	Attester Attester
	Roots    *snp.Roots       // of the platforms of successors; nil: AMD's. No configuration changes them
	Now      func() time.Time // the wall clock, which the host can set
	Log      *slog.Logger
}

// A Service answers administrators.
type Service struct{ Config }

// mostValid is how long a preparation may be valid.
const mostValid = 30 * 24 * time.Hour

// PinReleaseKey pins the key that signs releases.
func (s Service) PinReleaseKey(ctx context.Context, r api.ReleaseKeyRequest) (api.UpgradeStatus, error) {
	key, err := transfer.ParseReleaseKey(r.Key)
	if err != nil {
		return api.UpgradeStatus{}, problem.Invalid("/key", err.Error())
	}
	return s.change(ctx, "pin release key", func(x *store.Store) error { return x.PinReleaseKey(ctx, key) })
}

// change makes a change of the store, and returns how the upgrade is then.
func (s Service) change(ctx context.Context, what string, do func(*store.Store) error) (api.UpgradeStatus, error) {
	x, err := s.Store(ctx)
	if err != nil {
		return api.UpgradeStatus{}, err
	}
	err = do(x)
	s.Changed(ctx)
	if err != nil {
		s.Log.Error("upgrade failed", "operation", what, "error", err)
		return api.UpgradeStatus{}, err
	}
	s.Log.Info("upgrade", "operation", what)
	return s.Status(ctx)
}

// Prepare names successors: what the release says, whose signature it verifies.
func (s Service) Prepare(ctx context.Context, r api.PrepareRequest) (api.PreparedUpgrade, error) {
	valid := time.Duration(r.ValidFor) * time.Second
	if valid <= 0 || valid > mostValid {
		return api.PreparedUpgrade{}, problem.Invalid("/validFor", fmt.Sprintf("%d seconds, want 1 to %d", r.ValidFor, int(mostValid.Seconds())))
	}
	x, err := s.Store(ctx)
	if err != nil {
		return api.PreparedUpgrade{}, err
	}
	var out api.PreparedUpgrade
	var firmware bool
	offer, outlook, err := x.Prepare(ctx, func(u store.Upgrade) (store.Preparation, error) {
		p, launches, err := s.check(u, r, s.Now().Add(valid))
		out.Number, out.Expires, out.Measurements = p.Number, p.Expires, measurements(launches)
		firmware = slices.ContainsFunc(launches, func(l verify.Launch) bool { return l.Covers == verify.CoversFirmware })
		return p, err
	})
	s.Changed(ctx)
	if err != nil {
		s.Log.Error("upgrade failed", "operation", "prepare", "error", err)
		return api.PreparedUpgrade{}, err
	}
	s.Log.Warn("an upgrade is prepared: an image of the release can take over the store", "release", out.Number, "measurements", out.Measurements)
	out.Offer, out.Entries, out.Bytes, out.Left = offer.Encode(), outlook.Entries, outlook.Bytes, left(outlook)
	out.Contract = before(out, firmware)
	return out, nil
}

// check verifies a release under the pinned key, and refuses one that names no image, that is
// expired, or that is older than the image of this store.
func (s Service) check(u store.Upgrade, r api.PrepareRequest, ends time.Time) (store.Preparation, []verify.Launch, error) {
	fail := func(code api.Code, err error) (store.Preparation, []verify.Launch, error) {
		return store.Preparation{}, nil, &sealing.Error{Code: code, Detail: "prepare an upgrade", Err: err}
	}
	key, err := transfer.ParseKeyText(u.ReleaseKey)
	if err != nil {
		return store.Preparation{}, nil, err
	}
	if len(r.Release) > transfer.MaxRelease || len(r.Signature) > transfer.MaxKeyFile {
		return fail(api.CodeMalformedMessage, errors.New("release statement or signature is too large"))
	}
	if err := key.Verify(r.Release, r.Signature); err != nil {
		return store.Preparation{}, nil, err
	}
	release, err := transfer.ParseRelease(r.Release)
	if err != nil {
		return store.Preparation{}, nil, err
	}
	expires, err := release.Expires()
	switch {
	case err != nil:
		return fail(api.CodeMalformedMessage, err)
	case !s.Now().Before(expires):
		return fail(api.CodeReleaseExpired, fmt.Errorf("the release ended at %s, and it is %s here", release.NotAfter, s.Now().UTC().Format(time.RFC3339)))
	case release.Number < u.Number:
		return fail(api.CodeReleaseOlder, fmt.Errorf("release %d, and this store came from release %d", release.Number, u.Number))
	case expires.Before(ends):
		ends = expires
	}
	_, launches, err := s.verifier(release.Policy)
	if err != nil {
		return fail(api.CodeReleasePolicy, err)
	}
	return store.Preparation{Number: release.Number, Expires: uint64(ends.Unix()), Policy: release.Policy}, launches, nil
}

func measurements(launches []verify.Launch) []string {
	out := []string{}
	for _, l := range launches {
		out = append(out, l.Measurement)
	}
	return out
}

// verifier returns what verifies evidence of a successor, and the launch measurements that the
// policy lists. It refuses policies under which the image of a successor would be unknown, or the
// host could read its memory.
func (s Service) verifier(text string) (*verify.Verifier, []verify.Launch, error) {
	p, err := verify.ParsePolicy([]byte(text))
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(p.Launches) == 0 || p.UnlistedLaunch == "allow":
		return nil, nil, errors.New("the policy must list the launch measurements of successors as [[launch]], and no others")
	case p.GuestPolicy.AllowDebug || p.GuestPolicy.AllowMigrationAgent:
		return nil, nil, errors.New("the policy must not have guest_policy.allow_debug or allow_migration_agent: the memory of such a guest can leave it")
	}
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: s.Roots}})
	return v, p.Launches, err
}

// Request makes the request of a successor.
func (s Service) Request(ctx context.Context, r api.SuccessorRequest, c evidence.Caller) (api.SuccessorMessage, error) {
	offer, err := transfer.ParseOffer(r.Offer)
	if err != nil {
		return api.SuccessorMessage{}, err
	}
	x, err := s.Store(ctx)
	if err != nil {
		return api.SuccessorMessage{}, err
	}
	request, err := x.Ask(ctx, offer)
	if err != nil {
		return api.SuccessorMessage{}, err
	}
	parts, err := s.Attester.Attest(ctx, api.EvidenceRequest{Nonce: offer.Challenge[:], Audience: transfer.Audience, UserData: request.UserData(),
		Freshness: evidence.Fresh, Log: api.LogWhole}, c)
	if err != nil {
		return api.SuccessorMessage{}, err
	}
	request.Evidence = slices.Concat(parts...)
	b := request.Encode()
	if len(b) > transfer.MaxRequest {
		return api.SuccessorMessage{}, &sealing.Error{Code: api.CodeTransferTooLarge, Detail: fmt.Sprintf("the evidence of this machine has %d bytes, which is too much for a request", len(request.Evidence))}
	}
	s.Log.Info("upgrade", "operation", "request", "id", fmt.Sprintf("%x", request.UserData()))
	return api.SuccessorMessage{Request: b, ID: request.UserData()}, nil
}

// Answer verifies a request by the preparation, and seals the store to its key.
func (s Service) Answer(ctx context.Context, r api.HandOverRequest) (api.HandedOver, error) {
	request, err := transfer.ParseRequest(r.Request)
	if err != nil {
		return api.HandedOver{}, err
	}
	x, err := s.Store(ctx)
	if err != nil {
		return api.HandedOver{}, err
	}
	if err := s.admit(ctx, x, request); err != nil {
		s.Log.Error("a successor is refused", "id", fmt.Sprintf("%x", request.UserData()), "error", err)
		return api.HandedOver{}, err
	}
	b, outlook, err := x.HandOver(ctx, request)
	s.Changed(ctx)
	if err != nil {
		s.Log.Error("upgrade failed", "operation", "answer", "error", err)
		return api.HandedOver{}, err
	}
	s.Log.Warn("the store was handed over to a successor: nothing is changed here any more", "id", fmt.Sprintf("%x", request.UserData()), "entries", outlook.Entries)
	return api.HandedOver{Answer: b, ID: request.UserData(), Entries: outlook.Entries, Left: left(outlook)}, nil
}

// admit checks the preparation, and the evidence by it. A request that was answered before is
// verified again, but may come late: its answer was lost.
func (s Service) admit(ctx context.Context, x *store.Store, r *transfer.Request) error {
	p, again, err := x.Preparing(ctx, r)
	if err != nil {
		return err
	}
	now := s.Now()
	if !again && uint64(max(now.Unix(), 0)) >= p.Expires {
		return &sealing.Error{Code: api.CodePreparationExpired, Detail: fmt.Sprintf("the preparation ended at %s, and it is %s here", moment(p.Expires), now.UTC().Format(time.RFC3339))}
	}
	v, _, err := s.verifier(p.Policy)
	if err != nil {
		return &sealing.Error{Code: api.CodeReleasePolicy, Detail: "answer a request for an upgrade", Err: err}
	}
	_, err = v.Verify(r.Evidence, verify.Expect{Nonce: r.Challenge[:], Audience: transfer.Audience, UserData: r.UserData()}, now)
	return refused(err)
}

// ofRequest are the checks that fail for evidence that was made for something else.
var ofRequest = []verify.CheckID{"statement.nonce", "statement.audience", "statement.user-data"}

// refused gives an error of a verifier its code.
func refused(err error) error {
	if err == nil {
		return nil
	}
	r, ok := errors.AsType[*verify.RefusedError](err)
	if !ok {
		return &sealing.Error{Code: api.CodeSuccessorRefused, Detail: "verify the evidence of the successor", Err: err}
	}
	var names []string
	for _, c := range r.Appraisal.Failed() {
		names = append(names, string(c.ID))
		if slices.Contains(ofRequest, c.ID) && c.Verdict == verify.Fail {
			return &sealing.Error{Code: api.CodeEvidenceReplayed, Detail: fmt.Sprintf("the evidence was made for another request (%s)", c.ID)}
		}
	}
	const most = 8
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return &sealing.Error{Code: api.CodeSuccessorRefused, Detail: fmt.Sprintf("checks that failed: %s", strings.Join(names, ", ")), Err: err}
}

// Accept takes over the store that an answer contains.
func (s Service) Accept(ctx context.Context, answer []byte, key sealing.StoreKey) (api.AcceptedUpgrade, error) {
	a, err := transfer.ParseAnswer(bytes.Clone(answer))
	if err != nil {
		return api.AcceptedUpgrade{}, err
	}
	var out api.AcceptedUpgrade
	out.Upgrade, err = s.change(ctx, "accept", func(x *store.Store) (err error) {
		out.Written, out.Again, err = x.Accept(ctx, a, key)
		return err
	})
	if err != nil {
		return api.AcceptedUpgrade{}, err
	}
	out.Contract = after(out.Upgrade)
	return out, nil
}

// Abort gives an upgrade up.
func (s Service) Abort(ctx context.Context) (out api.AbortedUpgrade, err error) {
	out.Upgrade, err = s.change(ctx, "abort", func(x *store.Store) error {
		done, err := x.GiveUp(ctx)
		out.Returned, out.Answered = done.Returned, done.Answered
		return err
	})
	if err != nil {
		return api.AbortedUpgrade{}, err
	}
	if out.Answered {
		s.Log.Warn("an upgrade was given up after the store was handed over: a successor may use the same roots")
	}
	return out, nil
}

// Finish removes what the predecessor left.
func (s Service) Finish(ctx context.Context) (api.UpgradeStatus, error) {
	return s.change(ctx, "finish", func(x *store.Store) error { return x.Finish(ctx) })
}

// left lists what stays behind.
func left(o store.Outlook) []api.KeptBlob {
	out := []api.KeptBlob{}
	for _, k := range o.Left {
		out = append(out, api.KeptBlob{App: k.App, Kind: k.Kind.String(), Name: k.Name, Code: sealing.CodeOf(k.Err), Reason: k.Err.Error()})
	}
	return out
}

func moment(seconds uint64) string {
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
