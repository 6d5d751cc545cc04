// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"encoding/hex"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// JSONContentType is the content_type of our events in CEL-JSON.
const JSONContentType = "agentd"

// celRecord is a record in CEL-JSON (TCG Canonical Event Log Format, section 5.3):
// numbers as numbers, digests in lower-case hexadecimal.
type celRecord struct {
	Number      uint64         `json:"recnum"`
	PCR         uint32         `json:"pcr"`
	Digests     []celDigest    `json:"digests"`
	ContentType string         `json:"content_type"`
	Content     jsontext.Value `json:"content"` // event in its canonical spelling: the bytes that were hashed, without type and length
}

type celDigest struct {
	Algorithm string `json:"hashAlg"`
	Digest    string `json:"digest"`
}

// EncodeCELJSON returns the log as one CEL-JSON array with one record on each line. The
// same records always give the same bytes, and the member "content" is spelled exactly as
// it was hashed. A record whose content is not an event is an error.
func EncodeCELJSON(records []Record) ([]byte, error) {
	out := []byte("[")
	for i, r := range records {
		if _, err := r.Event(); err != nil {
			return nil, fmt.Errorf("export record %d: %w", r.Number, err)
		}
		c := celRecord{Number: r.Number, PCR: r.PCR, ContentType: JSONContentType, Content: jsontext.Value(r.Content[tlvHeader:])}
		for _, d := range r.Digests {
			c.Digests = append(c.Digests, celDigest{Algorithm: d.Algorithm.String(), Digest: hex.EncodeToString(d.Value)})
		}
		line, err := json.Marshal(c, json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("export record %d: %w", r.Number, err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, '\n'), line...)
	}
	return append(out, "\n]\n"...), nil
}
