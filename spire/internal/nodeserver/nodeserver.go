// SPDX-License-Identifier: Apache-2.0

// Package nodeserver is the server's side of the node attestor: it challenges a machine, verifies its
// evidence under a policy, and says which agent it is, with selectors.
//
// The challenge is in memory of the one call that it belongs to: no evidence answers two. What is known
// of each machine's log is in a folder (store.go), or in a database that servers share (database.go).
package nodeserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/spire/internal/node"
	"github.com/cvm-agentd/agentd/verify"
)

// Plugin answers SPIRE's server. The zero value waits for its configuration.
type Plugin struct {
	nodeattestorv1.UnimplementedNodeAttestorServer
	configv1.UnimplementedConfigServer

	log hclog.Logger // set by SPIRE before anything else

	mu  sync.RWMutex
	now *judge // nil before the first configuration; with mu
}

// SetLogger is called by SPIRE.
func (p *Plugin) SetLogger(log hclog.Logger) { p.log = log }

// Configure takes a configuration in the place of the one before.
func (p *Plugin) Configure(ctx context.Context, r *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	c, err := parse(r.CoreConfiguration, r.HclConfiguration)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var before state
	if p.now != nil {
		before = p.now.state
	}
	next, err := newJudge(ctx, c, before, p.log)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if before != nil && before != next.state {
		before.close()
	}
	p.now = next
	return &configv1.ConfigureResponse{}, nil
}

// Validate says whether a configuration can be used. It opens no folder of state, which a running
// server may use.
func (p *Plugin) Validate(_ context.Context, r *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	c, err := parse(r.CoreConfiguration, r.HclConfiguration)
	if err == nil {
		_, err = c.newSource().load()
	}
	if err != nil {
		return &configv1.ValidateResponse{Notes: []string{err.Error()}}, nil
	}
	return &configv1.ValidateResponse{Valid: true}, nil
}

// Attest challenges one machine.
func (p *Plugin) Attest(stream nodeattestorv1.NodeAttestor_AttestServer) error {
	p.mu.RLock()
	now := p.now
	p.mu.RUnlock()
	if now == nil {
		return status.Error(codes.FailedPrecondition, "not configured")
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if string(first.GetPayload()) != node.Payload {
		return status.Errorf(codes.InvalidArgument, "the agent began with something else than %q: its plugin is of another version, or not agentd's", node.Payload)
	}
	nonce := make([]byte, node.NonceSize)
	rand.Read(nonce)
	given := time.Now()
	freshness, err := now.freshness()
	if err != nil {
		return now.fault(err)
	}
	challenge, err := node.Challenge{Type: node.Payload, Nonce: nonce, Freshness: freshness}.Encode()
	if err != nil {
		return now.fault(err)
	}
	if err := stream.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_Challenge{Challenge: challenge}}); err != nil {
		return err
	}
	document, err := answer(stream, now.patience)
	if err != nil {
		return err
	}
	attributes, err := now.judge(stream.Context(), nonce, given, document)
	if err != nil {
		return err
	}
	return stream.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_AgentAttributes{AgentAttributes: attributes}})
}

// answer waits for the answer to a challenge. A call that waits for longer ends, and its challenge with it.
func answer(stream nodeattestorv1.NodeAttestor_AttestServer, patience time.Duration) ([]byte, error) {
	type received struct {
		r   *nodeattestorv1.AttestRequest
		err error
	}
	got := make(chan received, 1)
	go func() { // ends with the call
		r, err := stream.Recv()
		got <- received{r, err}
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case x := <-got:
		if x.err != nil {
			return nil, x.err
		}
		document := x.r.GetChallengeResponse()
		if len(document) == 0 || len(document) > node.MaxDocument {
			return nil, status.Errorf(codes.InvalidArgument, "evidence of %d bytes, want 1 to %d", len(document), node.MaxDocument)
		}
		return document, nil
	case <-late.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no evidence within %v: ask for a new challenge", patience)
	case <-stream.Context().Done():
		return nil, status.FromContextError(stream.Context().Err()).Err()
	}
}

// judge verifies evidence, and says which agent it is.
func (j *judge) judge(ctx context.Context, nonce []byte, given time.Time, document []byte) (*nodeattestorv1.AgentAttributes, error) {
	a, err := j.service.Appraise(ctx, nonce, given, document)
	switch {
	case errors.Is(err, relying.CodeBootEnded):
		return nil, j.disputed(ctx, document, err)
	case errors.Is(err, relying.CodeLogMoved), errors.Is(err, api.CodeBusy):
		return nil, status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, errDisputed):
		j.log.Error("evidence refused", "error", err)
		return nil, status.Error(codes.PermissionDenied, "another machine has used this attestation key: neither gets an identity until an operator has looked")
	case err != nil:
		return nil, j.fault(err)
	}
	claims, err := a.Claims()
	if err != nil {
		j.log.Warn("evidence refused", "reason", err)
		// Which rule it was is between the policy and its author.
		return nil, status.Errorf(codes.PermissionDenied, "the evidence of this machine was refused (%s): the log of the server says why", word(a.Class))
	}
	out := &nodeattestorv1.AgentAttributes{CanReattest: true}
	if out.SpiffeId, err = j.id(claims); err != nil {
		return nil, j.fault(err)
	}
	if out.SelectorValues, err = selectors(a, claims); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	j.log.Info("evidence accepted", "agent", out.SpiffeId, "basis", string(a.Basis), "binding", string(a.Binding))
	return out, nil
}

// disputed keeps that two machines use the attestation key of verified evidence. From now on neither is
// accepted.
func (j *judge) disputed(ctx context.Context, document []byte, why error) error {
	ak, err := keyOf(document)
	if err == nil {
		err = j.state.dispute(ctx, ak)
	}
	if err != nil {
		return j.fault(err)
	}
	j.log.Error("two machines use one attestation key: neither is accepted until an operator has decided", "ak", ak.String(), "state", j.state.name(), "reason", why)
	return status.Error(codes.PermissionDenied, "two machines use this attestation key: neither gets an identity until an operator has looked")
}

// keyOf returns the name of the attestation key of evidence.
func keyOf(document []byte) (keys.Name, error) {
	e, err := evidence.Parse(document)
	if err != nil {
		return nil, err
	}
	p, err := keys.ParsePublic(e.AK)
	if err != nil {
		return nil, err
	}
	return p.Name(), nil
}

// fault says that the server is at fault, of which its own log has the reason.
func (j *judge) fault(err error) error {
	j.log.Error("attestation failed", "error", err)
	return status.Error(codes.Internal, "the server cannot judge evidence: its log has the reason")
}

// word says why evidence was refused, as far as an agent is told.
func word(c verify.Class) string {
	for class, w := range map[verify.Class]string{
		verify.ClassBinding: "signature or binding", verify.ClassCollateral: "collateral", verify.ClassRevoked: "revoked", verify.ClassPolicy: "policy",
	} {
		if c == class {
			return w
		}
	}
	return fmt.Sprint(c)
}
