// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"context"
	"errors"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// Records keeps a record of each appraisal. Several processes may share one.
type Records interface {
	// Append keeps a record and, if r.Next is not nil, replaces what is known of the log as
	// [Logs.Advance] does: both in one atomic step. If what is known changed meanwhile, it keeps
	// neither, and the error is ErrMoved. It returns once a crash cannot lose what it kept: the
	// answer is sent after that.
	Append(ctx context.Context, r *Record) error
}

// Record is the result of one appraisal, and what it says of the machine's log.
type Record struct {
	Time      time.Time         // of the appraisal
	Nonce     []byte            // of the challenge
	AK        keys.Name         // attestation key; of refused evidence as that states it, unverified, or nil
	Appraisal *verify.Appraisal // the result
	Code      api.Code          // of the answer in its place: [CodeBootEnded], or empty

	Known *History // what was known of the log when the evidence was appraised; nil: nothing
	Next  *History // what is known with this evidence; nil: nothing new

	// Certificate is what the answer has: of the attestation key of accepted evidence. nil: none. It is
	// made before the record, so that this names it, and given out after it.
	Certificate *AKCertificate

	ak          *keys.Public // attestation key of unverified evidence; nil if it cannot be read
	wanted      bool         // a certificate of it
	uncertified string       // why none was made
}

// ErrUnavailable is wrapped by the errors of a store that does not answer at the moment. Clients then
// get the code "unavailable", and come again.
var ErrUnavailable = errors.New("relying: the store does not answer")
