// SPDX-License-Identifier: Apache-2.0

// Package workload is the workload attestor: it asks the daemon of this machine who a process is, and
// makes selectors of the answer.
package workload

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/spire/internal/settings"
)

// patience is how long the daemon may take: it may have to hash an executable.
const patience = 10 * time.Second

// config is the configuration of the plugin.
type config struct {
	Socket string `hcl:"socket"` // of the daemon, the client's; empty: as package client finds it
}

// Plugin answers SPIRE's agent. The zero value waits for its configuration.
type Plugin struct {
	workloadattestorv1.UnimplementedWorkloadAttestorServer
	configv1.UnimplementedConfigServer

	agent atomic.Pointer[client.Client]
}

// Configure takes a configuration in the place of the one before.
func (p *Plugin) Configure(_ context.Context, r *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	next, err := parse(r.CoreConfiguration, r.HclConfiguration)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if before := p.agent.Swap(next); before != nil {
		before.Close()
	}
	return &configv1.ConfigureResponse{}, nil
}

// Validate says whether a configuration can be used.
func (p *Plugin) Validate(_ context.Context, r *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	if _, err := parse(r.CoreConfiguration, r.HclConfiguration); err != nil {
		return &configv1.ValidateResponse{Notes: []string{err.Error()}}, nil
	}
	return &configv1.ValidateResponse{Valid: true}, nil
}

func parse(core *configv1.CoreConfiguration, text string) (*client.Client, error) {
	var c config
	if _, err := settings.Read(core, text, &c); err != nil {
		return nil, err
	}
	if c.Socket != "" {
		if err := settings.Path("socket", c.Socket); err != nil {
			return nil, err
		}
	}
	return &client.Client{Socket: c.Socket}, nil
}

// Attest returns the selectors of a process. SPIRE's agent checks afterwards that the process which
// connected to it still runs, so that the number was that process's own.
func (p *Plugin) Attest(ctx context.Context, r *workloadattestorv1.AttestRequest) (*workloadattestorv1.AttestResponse, error) {
	agent := p.agent.Load()
	if agent == nil {
		return nil, status.Error(codes.FailedPrecondition, "not configured")
	}
	if r.Pid <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "%d is not the number of a process", r.Pid)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	who, err := agent.Process(ctx, uint32(r.Pid))
	if err != nil {
		return nil, status.Errorf(code(err), "who process %d is: %v", r.Pid, err)
	}
	return &workloadattestorv1.AttestResponse{SelectorValues: Selectors(who)}, nil
}

// code returns the code of gRPC for a refusal of the daemon.
func code(err error) codes.Code {
	switch {
	case errors.Is(err, api.CodeNoSuchProcess):
		return codes.NotFound
	case errors.Is(err, api.CodeProcessNotPermitted):
		return codes.PermissionDenied
	}
	return codes.Unavailable
}

// Selectors returns what the daemon says of a process, as selectors. An app and its digest are among
// them only if the log vouches for all that the process can have run since it started: an entry that
// asks for either is for measured programs alone.
func Selectors(p *api.Process) (out []string) {
	add := func(name, format string, args ...any) { out = append(out, name+":"+fmt.Sprintf(format, args...)) }
	add("uid", "%d", p.UID)
	add("gid", "%d", p.GID)
	if p.Unit != "" {
		add("unit", "%s", p.Unit)
	}
	if c := p.Container; c != nil {
		add("engine", "%s", c.Engine)
		add("root", "%s", c.Root)
		if c.Image != nil {
			add("image", "sha256:%s", c.Image)
		}
	}
	if p.App != "" && p.SinceStart.Yes && p.Digest != nil {
		add("measured", "yes")
		add("app", "%s", p.App)
		add("digest", "%s", p.Digest)
	}
	if x := p.Executable; x != nil && x.Digest != nil && x.State == evidence.ExecutableFile {
		add("executable", "sha256:%s", x.Digest)
	}
	return out
}
