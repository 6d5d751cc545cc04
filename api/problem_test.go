// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"testing"
)

// TestProblemResponse: the one answer that every route has besides its own is a problem.
func TestProblemResponse(t *testing.T) {
	var d struct {
		Components struct {
			Responses map[string]struct {
				Headers map[string]json.RawMessage
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
			Schemas map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal(OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	r := d.Components.Responses["Problem"]
	if len(d.Components.Responses) != 1 || len(r.Content) != 1 || r.Content[ProblemType].Schema.Ref != "#/components/schemas/Problem" || r.Headers["Retry-After"] == nil {
		t.Errorf("got %+v", d.Components.Responses)
	}
}
