// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// Containers lists the measured containers that run.
func (a *Admin) Containers(ctx context.Context) (*api.Containers, error) {
	return call(ctx, a.socket(), api.CallContainers, api.None{})
}

// RecordContainer has a container measured that is being created. If it fails, the container must
// not start.
func (a *Admin) RecordContainer(ctx context.Context, r api.ContainerRequest) (*api.Container, error) {
	return call(ctx, a.socket(), api.CallRecordContainer, r)
}
