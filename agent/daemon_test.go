// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/internal/config"
)

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("disk full"), false},
		{&startup.Refusal{Err: errors.New("PCR 16")}, true},
		{fmt.Errorf("start: %w", &startup.Refusal{Err: errors.New("PCR 16")}), true},
		{errors.Join(&config.Error{File: "c.toml", Err: errors.New("x")}), true},
	} {
		if Refused(c.err) != c.want {
			t.Errorf("%v: %v", c.err, !c.want)
		}
	}
}
