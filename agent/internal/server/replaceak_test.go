// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// ReplaceAK answers as if the key was replaced.
func (f *fake) Try(context.Context) (api.Probed, error) {
	return api.Probed{Findings: []api.ProbeFinding{{Name: "session", Text: "none is free", Todo: "free one"}}}, nil
}

func (f *fake) ReplaceAK(context.Context) (api.Replaced, error) {
	return api.Replaced{New: []byte{1}, Backup: "ak-replaced-1.json", Reason: "another TPM"}, nil
}
