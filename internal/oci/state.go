// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// A State is what a runtime tells a hook of the container (runtime.md, "State").
type State struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Status      string            `json:"status"`
	PID         int               `json:"pid"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations"`
	// Others are members of later versions.
	Others map[string]jsontext.Value `json:",embed"`
}

// ReadState reads the state of a container that is being created.
func ReadState(r io.Reader) (*State, error) {
	b, err := durable.ReadAll(r, MaxState)
	if err != nil {
		return nil, fmt.Errorf("read the state of the container: %w", err)
	}
	s := new(State)
	if err := strictjson.DecodeForeign(b, MaxState, s); err != nil {
		return nil, fmt.Errorf("read the state of the container: %w", err)
	}
	if err := text.Check("id of the container", s.ID, 1, MaxID); err != nil {
		return nil, err
	}
	switch {
	case s.PID <= 0:
		return nil, errors.New("the state of the container has no pid: its process was not made yet, so the hook runs at the wrong stage")
	case s.Status != "creating" && s.Status != "created":
		return nil, fmt.Errorf("the container is %s, and can be measured only while it is created", text.Excerpt(s.Status))
	}
	return s, nil
}
