// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/oci"
)

// CRI-O reads the hooks of podman. Its containers have an annotation that tells.
const (
	criO    = "cri-o"
	manager = "io.container.manager"
)

// measure has the agent measure the container whose state is on in.
func (i *invocation) measure(in io.Reader) error {
	state, err := oci.ReadState(in)
	if err != nil {
		return fmt.Errorf("a container cannot be measured, so it does not start: %w", err)
	}
	if unprivileged, err := rootless("/proc/self/uid_map"); err != nil {
		return fmt.Errorf("container %s does not start: %w", state.ID, err)
	} else if unprivileged {
		return nil
	}
	if i.engine == "podman" && state.Annotations[manager] == criO {
		i.engine = criO
	}
	ctx, cancel := context.WithTimeout(context.Background(), oci.HookPatience)
	defer cancel()
	agent := client.Admin{Socket: cmp.Or(i.socket, api.AdminSocket)}
	_, err = agent.RecordContainer(ctx, api.ContainerRequest{Engine: i.engine, ID: state.ID, PID: uint32(state.PID), Bundle: state.Bundle})
	if err != nil {
		return fmt.Errorf("container %s was not measured, so it does not start: %w", state.ID, told(err))
	}
	return nil
}

// told returns an error of the agent with its code and hint: the engine's user has no other way to
// it.
func told(err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return fmt.Errorf("%w; is agentd.service running?", err)
	}
	if p.RetryAfter > 0 {
		err = fmt.Errorf("%w; start it again in %d s", err, p.RetryAfter)
	}
	if hint := p.Code.Info().Hint; hint != "" {
		return fmt.Errorf("%w (%s); %s", err, p.Code, hint)
	}
	return err
}

// rootless reports whether this process is in a user namespace: then a user without privileges
// starts the container, with an engine of their own. It is the app of no declaration, and gets
// nothing by starting unmeasured. path is that of the uid_map.
func rootless(path string) (bool, error) {
	if os.Geteuid() != 0 {
		return true, nil
	}
	b, err := durable.ReadFile(path, 64<<10)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // a kernel without user namespaces
	}
	if err != nil {
		return false, fmt.Errorf("find out whether the engine has privileges: %w", err)
	}
	return strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295", nil
}
