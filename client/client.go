// SPDX-License-Identifier: Apache-2.0

// Package client asks the agent. The zero value of [Client] is ready for use:
//
//	var agent client.Client
//	document, err := agent.Evidence(ctx, api.EvidenceRequest{Nonce: nonce, PublicKey: key})
//
// Failures that the agent reports are [*api.Problem], with a stable code:
//
//	if errors.Is(err, &api.Problem{Code: api.CodePlatformBusy}) { … }
//
// What the agent answers is not verified here: evidence convinces nobody who asked
// for it on the same machine. Package verify is for whoever it is handed to.
package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// Client asks over the socket that is open to programs. It may be used by many
// goroutines at once and must not be copied after its first use.
type Client struct {
	// Socket is the path of the agent's socket. Empty: the environment variable
	// AGENTD_SOCKET, and without that api.Socket. Not to be changed after the first use.
	Socket string

	transport transport
}

// maxAnswer is how many bytes of an answer other than evidence and log are read.
const maxAnswer = 4 << 20

// maxLog is how many bytes of a log answer are read: the longest log in base64, or in
// hexadecimal and JSON.
const maxLog = 4*evidence.MaxLog + 1<<20

// Evidence asks for evidence and returns the exact document. The agent may take more
// than a minute for a fresh one when the host throttles reports; ctx ends the waiting.
func (c *Client) Evidence(ctx context.Context, r api.EvidenceRequest) ([]byte, error) {
	return c.do(ctx, "POST", api.PathEvidence, r, evidence.MaxEvidence)
}

// Self asks who the caller is to the agent.
func (c *Client) Self(ctx context.Context) (*api.Self, error) {
	return decode[api.Self](c.do(ctx, "GET", api.PathSelf, nil, maxAnswer))
}

// Status asks how the agent does.
func (c *Client) Status(ctx context.Context) (*api.Status, error) {
	return decode[api.Status](c.do(ctx, "GET", api.PathStatus, nil, maxAnswer))
}

// Log asks for the measurement log from record start on.
func (c *Client) Log(ctx context.Context, start uint64) (*evidence.Log, error) {
	return decode[evidence.Log](c.log(ctx, start, api.LogTLV))
}

// LogCELJSON is the same as a document in the JSON encoding of the TCG Canonical Event
// Log, for other people's tools.
func (c *Client) LogCELJSON(ctx context.Context, start uint64) ([]byte, error) {
	return c.log(ctx, start, api.LogCELJSON)
}

// AK asks for the attestation key and what is needed to enrol this machine.
func (c *Client) AK(ctx context.Context) (*api.AK, error) {
	return decode[api.AK](c.do(ctx, "GET", api.PathAK, nil, maxAnswer))
}

// Close closes connections that are kept for later requests. The client remains usable.
func (c *Client) Close() { c.transport.close() }

func (c *Client) log(ctx context.Context, start uint64, format api.LogFormat) ([]byte, error) {
	query := url.Values{api.QueryStart: {strconv.FormatUint(start, 10)}, api.QueryFormat: {string(format)}}
	return c.do(ctx, "GET", api.PathLog+"?"+query.Encode(), nil, maxLog)
}

func (c *Client) do(ctx context.Context, method, target string, body any, limit int64) ([]byte, error) {
	return c.transport.do(ctx, clientSocket, c.Socket, method, target, body, limit)
}
