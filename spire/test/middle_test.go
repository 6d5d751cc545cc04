// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"os"
	"slices"
	"strconv"
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
	pad    = "pad"    // the same, which adds white space to answers until they have as many bytes as its second argument says
)

// TestMain runs the tests, or is a plugin that SPIRE's agent started.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && slices.Contains([]string{record, replay, pad}, os.Args[1]) {
		p := &middle{does: os.Args[1], with: os.Args[2]}
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
	does, with string
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
	answer, err := t.by.change(answer)
	if err != nil {
		return err
	}
	return t.NodeAttestor_AidAttestationServer.Send(&agentv1.PayloadOrChallengeResponse{
		Data: &agentv1.PayloadOrChallengeResponse_ChallengeResponse{ChallengeResponse: answer},
	})
}

func (p *middle) change(answer []byte) ([]byte, error) {
	switch p.does {
	case record:
		return answer, os.WriteFile(p.with, answer, 0o600)
	case replay:
		return os.ReadFile(p.with)
	}
	size, err := strconv.Atoi(p.with)
	if err != nil {
		return nil, err
	}
	return append(answer, bytes.Repeat([]byte(" "), size-len(answer))...), nil
}
