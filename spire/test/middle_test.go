// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"testing"

	"github.com/spiffe/spire-plugin-sdk/pluginmain"
	agentv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"

	"github.com/cvm-agentd/agentd/spire/internal/nodeagent"
)

// What the program of these tests is if its first argument is one of these: a plugin of SPIRE's agent.
const (
	record = "record" // the agent's side of ours, which also writes each answer to the file of its second argument
	replay = "replay" // the same, which answers every challenge with that file
)

// TestMain runs the tests, or is a plugin that SPIRE's agent started.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && (os.Args[1] == record || os.Args[1] == replay) {
		p := &middle{does: os.Args[1], file: os.Args[2]}
		pluginmain.Serve(agentv1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p))
		os.Exit(0) // SPIRE's agent ended it
	}
	code := m.Run()
	removePrograms()
	os.Exit(code)
}

// middle is between a server and our agent's side.
type middle struct {
	nodeagent.Plugin
	does, file string
}

// AidAttestation has our side answer, and reads or changes what it says.
func (p *middle) AidAttestation(stream agentv1.NodeAttestor_AidAttestationServer) error {
	return p.Plugin.AidAttestation(&tapped{stream, p})
}

type tapped struct {
	agentv1.NodeAttestor_AidAttestationServer
	by *middle
}

// Send passes a message on. The first one has no evidence.
func (t *tapped) Send(r *agentv1.PayloadOrChallengeResponse) error {
	answer := r.GetChallengeResponse()
	if answer == nil {
		return t.NodeAttestor_AidAttestationServer.Send(r)
	}
	if t.by.does == record {
		if err := os.WriteFile(t.by.file, answer, 0o600); err != nil {
			return err
		}
		return t.NodeAttestor_AidAttestationServer.Send(r)
	}
	old, err := os.ReadFile(t.by.file)
	if err != nil {
		return err
	}
	return t.NodeAttestor_AidAttestationServer.Send(&agentv1.PayloadOrChallengeResponse{
		Data: &agentv1.PayloadOrChallengeResponse_ChallengeResponse{ChallengeResponse: old},
	})
}
