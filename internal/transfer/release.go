// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/sealing"
)

// ReleaseType is the type member of a release statement.
const ReleaseType = "agentd/release/1"

// MaxNumber is the highest number of a release.
const MaxNumber = strictjson.MaxInteger

// Release names the images that may take over a store. It is a JSON document of its own, and
// what is signed is its exact bytes.
type Release struct {
	Type     string `json:"type"`     // ReleaseType
	Number   uint64 `json:"number"`   // orders releases: a store never goes over to a lower one
	NotAfter string `json:"notAfter"` // no preparation after that time: RFC 3339, in UTC, without fractions
	Policy   string `json:"policy"`   // what evidence of a successor must meet, in the language of docs/policy.md
}

// Expires returns when the release expires.
func (r *Release) Expires() (time.Time, error) {
	const layout = "2006-01-02T15:04:05Z"
	t, err := time.Parse(layout, r.NotAfter)
	if err != nil || t.Format(layout) != r.NotAfter { // Parse takes fractions too
		return t, fmt.Errorf("notAfter %q is not a time like 2030-01-31T12:00:00Z", r.NotAfter)
	}
	return t, nil
}

// ParseRelease reads a statement whose signature was verified.
func ParseRelease(b []byte) (*Release, error) {
	r := &Release{}
	err := strictjson.Decode(b, MaxRelease, r)
	if err == nil {
		_, err = r.Expires()
	}
	switch {
	case err != nil:
	case r.Type != ReleaseType:
		err = fmt.Errorf("type %q, want %q", r.Type, ReleaseType)
	case r.Number == 0 || r.Number > MaxNumber:
		err = fmt.Errorf("number %d, want 1 to 2^53 - 1", r.Number)
	case r.Policy == "":
		err = fmt.Errorf("no policy")
	}
	if err != nil {
		return nil, &sealing.Error{Code: api.CodeMalformedMessage, Detail: "read the release statement", Err: err}
	}
	return r, nil
}
