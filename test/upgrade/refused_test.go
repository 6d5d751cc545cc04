// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/transfer"
)

// TestReleaseRefused: what is not signed by the pinned key, is older, expired, or would let any
// image in, names no successor.
func TestReleaseRefused(t *testing.T) {
	x, r, _, storeKey := old(t)
	later := time.Now().Add(time.Hour)
	a := x.m.Admin()
	forged := r.release(t, 1, later, policy(imageB))
	forged.Release = append([]byte(nil), forged.Release...)
	forged.Release[len(forged.Release)-10] ^= 1
	for _, c := range []struct {
		what string
		r    api.PrepareRequest
		code api.Code
	}{
		{"another key", newReleases(t).release(t, 1, later, policy(imageC)), api.CodeReleaseSignature},
		{"a changed statement", forged, api.CodeReleaseSignature},
		{"no signature", api.PrepareRequest{Release: forged.Release, Signature: []byte{0}, ValidFor: 60}, api.CodeReleaseSignature},
		{"an expired release", r.release(t, 1, time.Now().Add(-time.Second), policy(imageB)), api.CodeReleaseExpired},
		{"any image", r.release(t, 1, later, "version = 1\nproducts = [\"milan\"]\nunlisted_launch = \"allow\"\n"), api.CodeReleasePolicy},
		{"any image besides those that are listed", r.release(t, 1, later, "unlisted_launch = \"allow\"\n"+policy(imageB)), api.CodeReleasePolicy},
		{"no image", r.release(t, 1, later, policy()), api.CodeReleasePolicy},
		{"no time at all", withValidFor(r.release(t, 1, later, policy(imageB)), 0), api.CodeInvalidValue},
		{"more than 30 days", withValidFor(r.release(t, 1, later, policy(imageB)), 30*24*3600+1), api.CodeInvalidValue},
		{"debugging", r.release(t, 1, later, policy(imageB)+"[guest_policy]\nallow_debug = true\n"), api.CodeReleasePolicy},
		{"migration", r.release(t, 1, later, policy(imageB)+"[guest_policy]\nallow_migration_agent = true\n"), api.CodeReleasePolicy},
		{"not a policy", r.release(t, 1, later, "x"), api.CodeReleasePolicy},
		{"number 0", r.release(t, 0, later, policy(imageB)), api.CodeMalformedMessage},
	} {
		_, err := a.PrepareUpgrade(t.Context(), c.r)
		refusedBy(t, c.what, err, c.code)
	}
	if u, err := a.Upgrade(t.Context()); err != nil || u.State != api.UpgradeNone {
		t.Errorf("after nothing but refusals: %+v, %v", u, err)
	}
	// A preparation ends with its release, at the latest. The contract says what firmware alone means.
	soon := time.Now().Add(10 * time.Minute)
	p, err := a.PrepareUpgrade(t.Context(), r.release(t, 1, soon, policy(imageB)))
	must(t, err)
	if p.Expires > uint64(soon.Unix()) {
		t.Errorf("the preparation ends at %d, the release at %d", p.Expires, soon.Unix())
	}
	if text := contract(p); !strings.Contains(text, "covers the firmware alone") || strings.Contains(text, "upgrade-finish`: what") {
		t.Errorf("the contract is\n%s", text)
	}
	kernel := strings.ReplaceAll(policy(imageB), `"firmware"`, `"firmware+kernel+cmdline"`)
	p, err = a.PrepareUpgrade(t.Context(), r.release(t, 1, soon, kernel))
	must(t, err)
	if text := contract(p); strings.Contains(text, "covers the firmware alone") {
		t.Errorf("the contract is\n%s", text)
	}
	// Downgrade: a store that came from release 7 goes over to no lower one.
	p, err = a.PrepareUpgrade(t.Context(), r.release(t, 7, later, policy(imageB)))
	must(t, err)
	q, err := x.on(imageB).RequestUpgrade(t.Context(), p.Offer)
	must(t, err)
	h, err := x.on(imageA).AnswerUpgrade(t.Context(), q.Request)
	must(t, err)
	b := x.on(imageB)
	_, err = b.AcceptUpgrade(t.Context(), h.Answer, storeKey)
	must(t, err)
	_, err = b.PrepareUpgrade(t.Context(), r.release(t, 6, later, policy(imageA)))
	refusedBy(t, "an older release", err, api.CodeReleaseOlder)
	// A chain: what image A left would stay for ever, and A could go back.
	_, err = b.PrepareUpgrade(t.Context(), r.release(t, 7, later, policy(imageC)))
	refusedBy(t, "a third image before the upgrade to the second is finished", err, api.CodeUpgradeUnfinished)
	if u, err := b.Upgrade(t.Context()); err != nil || u.State != api.UpgradeAccepted {
		t.Errorf("after the refusal: %+v, %v", u, err)
	}
	_, err = b.FinishUpgrade(t.Context())
	must(t, err)
	_, err = b.PrepareUpgrade(t.Context(), r.release(t, 7, later, policy(imageC)))
	must(t, err)
}

func withValidFor(r api.PrepareRequest, seconds uint32) api.PrepareRequest {
	r.ValidFor = seconds
	return r
}

// contract is what a preparation says of itself.
func contract(p *api.PreparedUpgrade) (text string) {
	for _, x := range p.Contract {
		text += x.About + ": " + x.Text + "\n"
	}
	return text
}

// TestSuccessorRefused: case 122. An attacker's image, a guest whose memory the host may
// read, evidence that was made for something else, an expired preparation, a second successor: each
// is refused by a code of its own, and nothing is handed over.
func TestSuccessorRefused(t *testing.T) {
	x, r, want, storeKey := old(t)
	later := time.Now().Add(time.Hour)
	y := newMachine(t, 2, "[keys]\n")
	prepare := func() []byte {
		t.Helper()
		p, err := x.m.Admin().PrepareUpgrade(t.Context(), r.release(t, 1, later, policy(imageB)))
		must(t, err)
		return p.Offer
	}
	answer := func(request []byte) error {
		_, err := x.m.Admin().AnswerUpgrade(t.Context(), request)
		return err
	}
	request := func(image string, offer []byte, flags ...string) []byte {
		t.Helper()
		q, err := y.on(image, flags...).RequestUpgrade(t.Context(), offer)
		must(t, err)
		return q.Request
	}
	refusedBy(t, "nothing is prepared", answer(request(imageB, prepare())[:40]), api.CodeMalformedMessage)
	_, err := x.m.Admin().AbortUpgrade(t.Context())
	must(t, err)
	offer := prepare()
	earlier := request(imageB, offer)
	_, err = x.m.Admin().AbortUpgrade(t.Context())
	must(t, err)
	refusedBy(t, "no preparation", answer(earlier), api.CodeNoPreparation)

	offer = prepare()
	refusedBy(t, "an earlier request", answer(earlier), api.CodeOtherPreparation)
	refusedBy(t, "image C", answer(request(imageC, offer)), api.CodeSuccessorRefused)
	refusedBy(t, "a guest that may be debugged", answer(request(imageB, offer, "--allow-debug")), api.CodeSuccessorRefused)

	genuine, err := transfer.ParseRequest(request(imageB, offer))
	must(t, err)
	parsed, err := transfer.ParseRequest(earlier)
	must(t, err)
	replayed := *genuine
	replayed.Evidence = parsed.Evidence
	refusedBy(t, "evidence of an earlier request", answer(replayed.Encode()), api.CodeEvidenceReplayed)
	relayed := *genuine
	_, public, err := message.NewKey()
	must(t, err)
	relayed.Public = public
	refusedBy(t, "evidence of B for the key of an attacker", answer(relayed.Encode()), api.CodeEvidenceReplayed)

	// A client of image B asks its agent for evidence over the key of an attacker.
	made := api.EvidenceRequest{Nonce: relayed.Challenge[:], UserData: relayed.UserData(), Audience: transfer.Audience}
	_, err = y.m.Client().Evidence(t.Context(), made)
	refusedBy(t, "a client that asks for such evidence", err, api.CodeInvalidValue)
	made.Audience = ""
	relayed.Evidence, err = y.m.Client().Evidence(t.Context(), made)
	must(t, err)
	refusedBy(t, "evidence that a client of B got", answer(relayed.Encode()), api.CodeEvidenceReplayed)

	// Reflection: the old agent does not ask itself.
	_, err = x.m.Admin().RequestUpgrade(t.Context(), offer)
	refusedBy(t, "the old agent as its own successor", err, api.CodeStoreInUse)

	short := r.release(t, 1, later, policy(imageB))
	short.ValidFor = 1
	p, err := x.m.Admin().PrepareUpgrade(t.Context(), short)
	must(t, err)
	late := request(imageB, p.Offer)
	until(t, "the preparation is expired", func() bool { return uint64(time.Now().Unix()) > p.Expires })
	refusedBy(t, "an expired preparation", answer(late), api.CodePreparationExpired)
	x.same(want)
	if _, err := x.as("ledger", "x", "seal", "--name", "still", "-"); err != nil {
		t.Errorf("nothing was handed over, and nothing can be stored: %v", err)
	}

	// Used twice.
	offer = prepare()
	first := request(imageB, offer)
	z := newMachine(t, 3, "[keys]\n")
	q, err := z.on(imageB).RequestUpgrade(t.Context(), offer)
	must(t, err)
	must(t, answer(first))
	refusedBy(t, "a second successor", answer(q.Request), api.CodePreparationUsed)
	h, err := x.on(imageA).AnswerUpgrade(t.Context(), request(imageB, offer)) // the answer was lost, and both were restarted
	must(t, err)
	_, err = z.m.Admin().AcceptUpgrade(t.Context(), h.Answer, storeKey)
	refusedBy(t, "the answer to another successor", err, api.CodeOtherRequest)
	other, err := z.on(imageA).Store(t.Context())
	if err != nil || other.Status.StoreKey != "" {
		t.Errorf("the store of a machine that was refused: %+v, %v", other, err)
	}
	_, err = y.m.Admin().AcceptUpgrade(t.Context(), h.Answer, storeKey)
	must(t, err)
	y.same(want)
}
