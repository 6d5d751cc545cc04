// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Options says what evidence is held against. Time and Policy are required, and
// either Nonce or AcceptReplay. An option that says nothing of the kind of material at
// hand is an error, since whoever gave it expects to be protected by it; so is an
// expectation that is empty and not nil.
type Options struct {
	Policy       *Policy
	Nonce        []byte                // that was sent with the request, 16 to 64 bytes; of raw material 1 to 64
	AcceptReplay bool                  // no nonce is known: the evidence may be old, or made for somebody else
	Audience     string                // who this verifier is; evidence that names anyone else, or no one, is refused
	PublicKey    []byte                // that is seen in use, exactly as in the statement; nil: not compared
	UserData     []byte                // that is expected, exactly as in the statement; nil: not compared; of a paravisor's set never empty
	Time         time.Time             // of the appraisal; this package never reads a clock
	Certificates [][]byte              // X.509 DER, in addition to those in the evidence; unverified
	Roots        *snp.Roots            // nil: AMD's roots, which are built in
	Revocation   []*snp.RevocationList // of the roots; those of other roots are passed over
	LogState     *LogState             // of an earlier accepted appraisal: a log that starts at an index must continue it, a whole log of the same boot must have passed through it
	Cache        *Cache                // of the caller; nil: everything is verified anew
	ReportData   []byte                // for [Report] alone, in place of Nonce: 1 to 64 bytes; zeros follow shorter ones
}

// ErrOptions is wrapped by every error of [Evidence].
var ErrOptions = errors.New("verify: options")

func (o *Options) check(m Material) error {
	misuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w", ErrOptions, fmt.Errorf(format, a...))
	}
	if name := o.empty(); name != "" {
		return misuse("%s is empty, which would be met by anything or by nothing: leave it nil where none is expected", name)
	}
	switch {
	case o.Policy == nil:
		return misuse("no policy: there is no default, since what is acceptable depends on who asks")
	case o.Time.IsZero():
		return misuse("no time: certificates are valid for a time only")
	case len(o.Nonce) == 0 && len(o.ReportData) == 0 && !o.AcceptReplay:
		return misuse("no nonce: without the nonce that was sent, old evidence passes for new; set AcceptReplay where that is acceptable")
	case (len(o.Nonce) != 0 || len(o.ReportData) != 0) && o.AcceptReplay:
		return misuse("a nonce, or report data, and AcceptReplay contradict each other")
	case len(o.Nonce) != 0 && (len(o.Nonce) < minNonce(m) || len(o.Nonce) > evidence.MaxNonce):
		return misuse("nonce of %d bytes, want %d to %d", len(o.Nonce), minNonce(m), evidence.MaxNonce)
	case o.LogState != nil && o.LogState.Head.Count == 0:
		return misuse("the log state is that of an empty log")
	}
	return o.checkMaterial(m, misuse)
}

// empty names the expectation that is there and empty. Whoever read it from a file or
// a flag meant to expect something.
func (o *Options) empty() string {
	for _, x := range []struct {
		name  string
		value []byte
	}{{"nonce", o.Nonce}, {"public key", o.PublicKey}, {"user data", o.UserData}, {"report data", o.ReportData}} {
		if x.value != nil && len(x.value) == 0 {
			return x.name
		}
	}
	return ""
}

// minNonce is the shortest nonce. Other systems use what they like.
func minNonce(m Material) int {
	if m == MaterialEvidence {
		return evidence.MinNonce
	}
	return 1
}

// checkMaterial refuses options that would be passed over.
func (o *Options) checkMaterial(m Material, misuse func(string, ...any) error) error {
	switch {
	case m != MaterialReport && o.ReportData != nil:
		return misuse("report data is expected of a bare report only")
	case o.ReportData != nil && len(o.ReportData) == 0:
		return misuse("report data of 0 bytes expects nothing, want 1 to 64; leave it nil where none is expected")
	case len(o.ReportData) > 64:
		return misuse("report data of %d bytes, want 1 to 64", len(o.ReportData))
	case len(o.ReportData) != 0 && len(o.Nonce) != 0:
		return misuse("a bare report holds report data or a nonce, not both")
	case m == MaterialEvidence:
		return nil
	case o.Audience != "" || o.PublicKey != nil || o.LogState != nil:
		return misuse("audience, public key and log state are expected of evidence only: raw material holds nothing of the kind")
	case m != MaterialParavisor && o.UserData != nil:
		return misuse("user data is expected of evidence, or of a paravisor's set")
	case o.UserData != nil && len(o.UserData) == 0:
		// Zeros follow what is given: a paravisor that was handed nothing would match.
		return misuse("user data of 0 bytes expects nothing, want 1 to %d; leave it nil where none is expected", hclUserData)
	}
	return nil
}
