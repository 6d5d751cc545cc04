// SPDX-License-Identifier: Apache-2.0

// Package client asks the agent on this machine for evidence, keys and its state. The
// zero value of [Client] is ready for use:
//
//	var agent client.Client
//	document, err := agent.Evidence(ctx, api.EvidenceRequest{Nonce: nonce, PublicKey: key})
//
// Failures that the agent reports are [*api.Problem], with a stable code:
//
//	if errors.Is(err, api.CodePlatformBusy) { … }
//
// This package does not verify what the agent answers. A program cannot be convinced by
// evidence that it fetched itself. The remote relying party verifies it, with package verify.
package client

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// Client asks over the socket that is open to programs. It may be used by many
// goroutines at once and must not be copied after its first use.
type Client struct {
	// Socket is the path of the agent's socket. If it is empty, the environment variable
	// AGENTD_SOCKET has the path, and without that it is api.Socket. It must not be
	// changed after the first use.
	Socket string

	transport transport
	known     atomic.Pointer[api.Self] // for proofs of possession; nil: ask
}

// maxAnswer is how many bytes of an answer other than evidence and log are read.
const maxAnswer = 4 << 20

// maxLog is how many bytes of a log answer are read: the longest log in base64, or in
// hexadecimal and JSON.
const maxLog = 4*evidence.MaxLog + 1<<20

func (c *Client) socket() socket {
	return socket{transport: &c.transport, endpoint: clientSocket, set: c.Socket}
}

// Evidence asks for evidence and returns the exact document. The agent may take more
// than a minute for a fresh one when the host throttles reports; ctx ends the waiting.
func (c *Client) Evidence(ctx context.Context, r api.EvidenceRequest) ([]byte, error) {
	return c.AppendEvidence(ctx, nil, r)
}

// AppendEvidence asks for evidence as Evidence does, and appends the document to b. A program
// that asks often needs no new buffer for each document: it passes b[:0].
func (c *Client) AppendEvidence(ctx context.Context, b []byte, r api.EvidenceRequest) ([]byte, error) {
	to := c.socket()
	to.into = b
	return send(ctx, to, api.CallEvidence, r, evidence.MaxEvidence)
}

// Self asks who the caller is to the agent.
func (c *Client) Self(ctx context.Context) (*api.Self, error) {
	return call(ctx, c.socket(), api.CallSelf, api.None{})
}

// Process does what [Admin.Process] does, for the units that the configuration of the agent names in
// processes.askers.
func (c *Client) Process(ctx context.Context, pid uint32) (*api.Process, error) {
	return process(ctx, c.socket(), pid)
}

func process(ctx context.Context, to socket, pid uint32) (*api.Process, error) {
	return call(ctx, to, api.CallProcess, api.None{}, api.QueryPID, strconv.FormatUint(uint64(pid), 10))
}

// Status asks for the state of the agent.
func (c *Client) Status(ctx context.Context) (*api.Status, error) {
	return call(ctx, c.socket(), api.CallStatus, api.None{})
}

// StatusNow asks for the state of the agent, after the agent tried whether it can make evidence
// now. That takes up to 5 seconds.
func (c *Client) StatusNow(ctx context.Context) (*api.Status, error) {
	return call(ctx, c.socket(), api.CallStatus, api.None{}, api.QueryCheck, api.CheckNow)
}

// Metrics returns what the agent counts and each user may know, as text for Prometheus
// (api.MetricsType). [Admin.Metrics] has the rest.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return send(ctx, c.socket(), api.CallMetrics, api.None{}, maxAnswer)
}

// Log asks for the measurement log from record start on.
func (c *Client) Log(ctx context.Context, start uint64) (*evidence.Log, error) {
	b, err := c.log(ctx, start, api.LogTLV)
	if err != nil {
		return nil, err
	}
	return decode[evidence.Log](b)
}

// LogCELJSON asks for the same as a document in the JSON encoding of the TCG Canonical
// Event Log, which other tools read.
func (c *Client) LogCELJSON(ctx context.Context, start uint64) ([]byte, error) {
	return c.log(ctx, start, api.LogCELJSON)
}

// OpenAPI asks for the description of the agent's API in OpenAPI 3.1, as JSON.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	return send(ctx, c.socket(), api.CallOpenAPI, api.None{}, maxAnswer)
}

// AK asks for the attestation key and what is needed to enrol this machine.
func (c *Client) AK(ctx context.Context) (*api.AK, error) {
	return call(ctx, c.socket(), api.CallAK, api.None{})
}

// Close closes connections that are kept for later requests. The client remains usable.
func (c *Client) Close() { c.transport.close() }

func (c *Client) log(ctx context.Context, start uint64, format api.LogFormat) ([]byte, error) {
	return send(ctx, c.socket(), api.CallLog, api.None{}, maxLog, api.QueryStart, strconv.FormatUint(start, 10), api.QueryFormat, string(format))
}

// Derive asks for a secret of the calling app. The caller overwrites it after use.
func (c *Client) Derive(ctx context.Context, r api.DeriveRequest) (*api.Derived, error) {
	return call(ctx, c.socket(), api.CallDerive, r)
}

// Sign signs with a key of the calling app. The private half does not leave the agent.
func (c *Client) Sign(ctx context.Context, r api.SignRequest) (*api.Signed, error) {
	return call(ctx, c.socket(), api.CallSign, r)
}

// PublicKey returns the public half of a signing key of the calling app.
func (c *Client) PublicKey(ctx context.Context, k api.SigningKey) (*api.PublicKey, error) {
	return call(ctx, c.socket(), api.CallPublic, api.None{}, api.QueryLabel, k.Label, api.QueryAlgorithm, string(k.Algorithm),
		api.QueryVersion, strconv.FormatUint(uint64(k.Version), 10))
}

// Certify has the attestation key certify that a signing key of the calling app is in the TPM.
// keys.Certification checks the answer, for the party that r.Data came from.
func (c *Client) Certify(ctx context.Context, r api.CertifyRequest) (*api.Certified, error) {
	return call(ctx, c.socket(), api.CallCertify, r)
}

// Seal stores a secret of the calling app. When the error is nil, the secret is on disk.
func (c *Client) Seal(ctx context.Context, r api.SealRequest) (*api.Sealed, error) {
	return call(ctx, c.socket(), api.CallSeal, r)
}

// Unseal opens what Seal stored. The caller overwrites it after use.
func (c *Client) Unseal(ctx context.Context, r api.UnsealRequest) ([]byte, error) {
	out, err := call(ctx, c.socket(), api.CallUnseal, r)
	if err != nil {
		return nil, err
	}
	return out.Data, nil
}

// Discard deletes a secret that the calling app stored.
func (c *Client) Discard(ctx context.Context, name string) error {
	_, err := call(ctx, c.socket(), api.CallDiscard, api.DiscardRequest{Name: name})
	return err
}

// Emit records an event of the calling app. When the error is nil, log and PCR have it.
func (c *Client) Emit(ctx context.Context, r api.EventRequest) (*api.RecordedEvent, error) {
	return call(ctx, c.socket(), api.CallEmit, r)
}

// Events returns events of the calling app since boot, from record start on, in a domain or, if
// that is empty, in all. If its Next is not nil, there are more from that record on.
func (c *Client) Events(ctx context.Context, start uint64, domain string) (*api.Events, error) {
	return call(ctx, c.socket(), api.CallEvents, api.None{}, api.QueryStart, strconv.FormatUint(start, 10), api.QueryDomain, domain)
}

// Contract says what a secret of that name would be sealed to now, and what would lock
// it out. Without a name it is about the root that the app's secrets are derived from.
func (c *Client) Contract(ctx context.Context, name string) (*api.Contract, error) {
	return call(ctx, c.socket(), api.CallContract, api.None{}, api.QueryName, name)
}
