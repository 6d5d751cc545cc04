package verify

import (
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Options says what evidence is held against. Time and Policy are required, and
// either Nonce or AcceptReplay.
type Options struct {
	Policy       *Policy
	Nonce        []byte                // that was sent with the request, 16 to 64 bytes
	AcceptReplay bool                  // no nonce is known: the evidence may be old, or made for somebody else
	Audience     string                // who this verifier is; evidence that names anyone else, or no one, is refused
	PublicKey    []byte                // that is seen in use, exactly as in the statement; nil: not compared
	UserData     []byte                // that is expected, exactly as in the statement; nil: not compared
	Time         time.Time             // of the appraisal; this package never reads a clock
	Certificates [][]byte              // X.509 DER, in addition to those in the evidence; unverified
	Roots        *snp.Roots            // nil: AMD's roots, which are built in
	Revocation   []*snp.RevocationList // of the roots; those of other roots are passed over
	LogState     *LogState             // of an earlier accepted appraisal, for a log that starts at an index
}

// ErrOptions is wrapped by every error of [Evidence].
var ErrOptions = errors.New("verify: options")

func (o *Options) check() error {
	misuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w", ErrOptions, fmt.Errorf(format, a...))
	}
	switch {
	case o.Policy == nil:
		return misuse("no policy: there is no default, since what is acceptable depends on who asks")
	case o.Time.IsZero():
		return misuse("no time: certificates are valid for a time only")
	case len(o.Nonce) == 0 && !o.AcceptReplay:
		return misuse("no nonce: without the nonce that was sent, old evidence passes for new; set AcceptReplay where that is acceptable")
	case len(o.Nonce) != 0 && o.AcceptReplay:
		return misuse("a nonce and AcceptReplay contradict each other")
	case len(o.Nonce) != 0 && (len(o.Nonce) < evidence.MinNonce || len(o.Nonce) > evidence.MaxNonce):
		return misuse("nonce of %d bytes, want %d to %d", len(o.Nonce), evidence.MinNonce, evidence.MaxNonce)
	case o.LogState != nil && o.LogState.Head.Count == 0:
		return misuse("the log state is that of an empty log")
	}
	return nil
}
