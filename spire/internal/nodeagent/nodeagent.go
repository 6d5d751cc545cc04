// SPDX-License-Identifier: Apache-2.0

// Package nodeagent is the agent's side of the node attestor: it has the daemon of this machine make
// evidence over the server's challenge.
package nodeagent

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/spire/internal/node"
	"github.com/cvm-agentd/agentd/spire/internal/settings"
)

// patience is how long the daemon may take for evidence: a host was seen to delay a report by 62 s.
const patience = 90 * time.Second

// config is the configuration of the plugin.
type config struct {
	Socket string `hcl:"socket"` // of the daemon; empty: as package client finds it
}

// running is what a configuration makes of a plugin.
type running struct {
	agent    *client.Client
	audience string
}

// Plugin answers SPIRE's agent. The zero value waits for its configuration.
type Plugin struct {
	nodeattestorv1.UnimplementedNodeAttestorServer
	configv1.UnimplementedConfigServer

	now atomic.Pointer[running]
}

// Configure takes a configuration in the place of the one before.
func (p *Plugin) Configure(_ context.Context, r *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	next, err := parse(r.CoreConfiguration, r.HclConfiguration)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if before := p.now.Swap(next); before != nil {
		before.agent.Close()
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

func parse(core *configv1.CoreConfiguration, text string) (*running, error) {
	var c config
	domain, err := settings.Read(core, text, &c)
	if err != nil {
		return nil, err
	}
	if c.Socket != "" {
		if err := settings.Path("socket", c.Socket); err != nil {
			return nil, err
		}
	}
	return &running{&client.Client{Socket: c.Socket}, node.Audience(domain.TrustDomain)}, nil
}

// AidAttestation names the exchange, and answers one challenge with evidence.
func (p *Plugin) AidAttestation(stream nodeattestorv1.NodeAttestor_AidAttestationServer) error {
	now := p.now.Load()
	if now == nil {
		return status.Error(codes.FailedPrecondition, "not configured")
	}
	hello := &nodeattestorv1.PayloadOrChallengeResponse_Payload{Payload: []byte(node.Payload)}
	if err := stream.Send(&nodeattestorv1.PayloadOrChallengeResponse{Data: hello}); err != nil {
		return err
	}
	r, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil // the server wants nothing more
	} else if err != nil {
		return err
	}
	c, err := node.ParseChallenge(r.Challenge)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	ctx, cancel := context.WithTimeout(stream.Context(), patience)
	defer cancel()
	document, err := now.agent.Evidence(ctx, api.EvidenceRequest{
		Nonce: c.Nonce, Audience: now.audience, UserData: []byte(node.UserData), Freshness: c.Freshness,
	})
	if err != nil {
		return status.Errorf(codes.Unavailable, "evidence of this machine: %v", err)
	}
	if len(document) > node.MaxDocument {
		return status.Errorf(codes.ResourceExhausted, "the evidence has %d bytes, and SPIRE carries at most %d: the measurement log is too long, and the next boot begins a new one", len(document), node.MaxDocument)
	}
	answer := &nodeattestorv1.PayloadOrChallengeResponse_ChallengeResponse{ChallengeResponse: document}
	return stream.Send(&nodeattestorv1.PayloadOrChallengeResponse{Data: answer})
}
