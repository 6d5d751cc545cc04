// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// Admin asks over the admin socket. As with [Client] the zero value is ready for use.
type Admin struct {
	// Socket is the path of the admin socket. If it is empty, the environment variable
	// AGENTD_ADMIN_SOCKET has the path, and without that it is api.AdminSocket.
	Socket string

	transport transport
}

func (a *Admin) socket() socket {
	return socket{transport: &a.transport, endpoint: adminSocket, set: a.Socket}
}

// Apps lists the declared apps.
func (a *Admin) Apps(ctx context.Context) ([]api.App, error) {
	out, err := call(ctx, a.socket(), api.CallApps, api.None{})
	if err != nil {
		return nil, err
	}
	return out.Apps, nil
}

// Measure measures the app called name now and returns once the log has the result.
func (a *Admin) Measure(ctx context.Context, name string) (*api.App, error) {
	return call(ctx, a.socket(), api.CallMeasure, api.None{}, "name", name)
}

// Process asks who the process with this number is to the agent. Another process may have had the
// number a moment before: a program that has a pidfd of the process it means checks, after the answer,
// that it has not ended.
func (a *Admin) Process(ctx context.Context, pid uint32) (*api.Process, error) {
	return process(ctx, a.socket(), pid)
}

// Reload makes the agent read the declarations again.
func (a *Admin) Reload(ctx context.Context) (*api.Reloaded, error) {
	return call(ctx, a.socket(), api.CallReload, api.None{})
}

// Activate makes the TPM open a credential, which proves that AK and EK share it.
func (a *Admin) Activate(ctx context.Context, r api.ActivateRequest) ([]byte, error) {
	out, err := call(ctx, a.socket(), api.CallActivate, r)
	if err != nil {
		return nil, err
	}
	return out.Secret, nil
}

// ReplaceAK makes a new attestation key in place of a stored one that this TPM does not
// load, which stays in a file. Verifiers have to enrol the new one.
func (a *Admin) ReplaceAK(ctx context.Context) (*api.Replaced, error) {
	return call(ctx, a.socket(), api.CallReplace, api.None{})
}

// Metrics returns what the agent counts, as text for Prometheus (api.MetricsType).
func (a *Admin) Metrics(ctx context.Context) ([]byte, error) {
	return send(ctx, a.socket(), api.CallMetrics, api.None{}, maxAnswer)
}

// Close closes connections that are kept for later requests.
func (a *Admin) Close() { a.transport.close() }

// Store lists the sealed blobs of the machine, with the state of the store.
func (a *Admin) Store(ctx context.Context) (*api.Store, error) {
	return call(ctx, a.socket(), api.CallStore, api.None{})
}

// Contract says what the root of an app opens on, or its secret of that name.
func (a *Admin) Contract(ctx context.Context, app, name string) (*api.Contract, error) {
	return call(ctx, a.socket(), api.CallStoreContract, api.None{}, api.QueryApp, app, api.QueryName, name)
}

// Rewrap seals every blob to the machine as it is now.
func (a *Admin) Rewrap(ctx context.Context) (*api.Rewritten, error) {
	return call(ctx, a.socket(), api.CallRewrap, api.None{})
}

// Rotate gives an app a new version of its root, and returns its number.
func (a *Admin) Rotate(ctx context.Context, app string) (uint32, error) {
	out, err := call(ctx, a.socket(), api.CallRotate, api.RotateRequest{App: app})
	if err != nil {
		return 0, err
	}
	return out.Version, nil
}

// Retire forgets an older version of an app's root: what was derived from it is lost.
func (a *Admin) Retire(ctx context.Context, app string, version uint32) error {
	_, err := call(ctx, a.socket(), api.CallRetire, api.RetireRequest{App: app, Version: version})
	return err
}

// Recover opens with recovery identities (a file of age-keygen) what this machine cannot
// open and the store key signed, and seals it to this machine. Without both, it salvages a
// store whose manifest is lost.
func (a *Admin) Recover(ctx context.Context, r api.RecoverRequest) (*api.Rewritten, error) {
	return call(ctx, a.socket(), api.CallRecover, r)
}

// RotateStoreKey gives the store a new key, and signs every blob with it. Root has to keep
// its public half in the place of the old one.
func (a *Admin) RotateStoreKey(ctx context.Context) (*api.Rewritten, error) {
	return call(ctx, a.socket(), api.CallRotateKey, api.None{})
}

// ChangeRecipients seals every blob to other recovery recipients.
func (a *Admin) ChangeRecipients(ctx context.Context, r api.RecipientsRequest) (*api.Rewritten, error) {
	return call(ctx, a.socket(), api.CallRecipients, r)
}

// AcceptRollback makes an older state that was put back the current one.
func (a *Admin) AcceptRollback(ctx context.Context) (*api.Store, error) {
	return call(ctx, a.socket(), api.CallAccept, api.None{})
}

// ChangeDigests changes which digests an app must have for its keys.
func (a *Admin) ChangeDigests(ctx context.Context, r api.DigestRequest) (*api.Contract, error) {
	return call(ctx, a.socket(), api.CallDigests, r)
}

// TryTPM tries what the agent needs of the TPM: algorithms, authorizations, room. It changes
// nothing.
func (a *Admin) TryTPM(ctx context.Context) (*api.Probed, error) {
	return call(ctx, a.socket(), api.CallTryTPM, api.None{})
}

// Probe tries out the key derivation of the platform, with up to five requests
// to its firmware.
func (a *Admin) Probe(ctx context.Context) (*api.Probed, error) {
	return call(ctx, a.socket(), api.CallProbe, api.None{})
}

// Secrets lists what root provisioned for an app, or for all apps if app is empty.
func (a *Admin) Secrets(ctx context.Context, app string) (*api.Secrets, error) {
	if app == "" {
		return call(ctx, a.socket(), api.CallSecrets, api.None{})
	}
	return call(ctx, a.socket(), api.CallSecrets, api.None{}, api.QueryApp, app)
}

// PutSecret stores a secret for an app. systemd hands it to the app's unit, and no call returns
// it. The code is api.CodeExists if there is one of that name.
func (a *Admin) PutSecret(ctx context.Context, r api.SecretRequest) (*api.ProvisionedSecret, error) {
	return call(ctx, a.socket(), api.CallPutSecret, r)
}

// RotateSecret replaces the content of a secret of PutSecret. The old content stays until the new
// one is durable.
func (a *Admin) RotateSecret(ctx context.Context, r api.SecretRequest) (*api.ProvisionedSecret, error) {
	return call(ctx, a.socket(), api.CallRotateSecret, r)
}

// RemoveSecret deletes a secret of PutSecret.
func (a *Admin) RemoveSecret(ctx context.Context, app, name string) error {
	_, err := call(ctx, a.socket(), api.CallRemoveSecret, api.RemoveSecretRequest{App: app, Name: name})
	return err
}

// Ticket makes a ticket, by which a relying party encrypts one secret to this agent.
func (a *Admin) Ticket(ctx context.Context, r api.TicketRequest) (*api.DeliveryTicket, error) {
	return call(ctx, a.socket(), api.CallTicket, r)
}

// Receive stores the secret that a relying party encrypted by a ticket, and returns the receipt.
func (a *Admin) Receive(ctx context.Context, sealed []byte) (*api.ReceivedSecret, error) {
	return call(ctx, a.socket(), api.CallReceive, api.ReceiveRequest{Sealed: sealed})
}

// Upgrade says how far an upgrade to another launch measurement is.
func (a *Admin) Upgrade(ctx context.Context) (*api.UpgradeStatus, error) {
	return call(ctx, a.socket(), api.CallUpgrade, api.None{})
}

// PinReleaseKey pins the key that signs releases, from the file of its public half.
func (a *Admin) PinReleaseKey(ctx context.Context, file []byte) (*api.UpgradeStatus, error) {
	return call(ctx, a.socket(), api.CallPinReleaseKey, api.ReleaseKeyRequest{Key: file})
}

// PrepareUpgrade names the images that may take the store over. The answer has the offer for a
// successor, and says what would go over.
func (a *Admin) PrepareUpgrade(ctx context.Context, r api.PrepareRequest) (*api.PreparedUpgrade, error) {
	return call(ctx, a.socket(), api.CallPrepareUpgrade, r)
}

// RequestUpgrade asks to take a store over, on the side of the successor.
func (a *Admin) RequestUpgrade(ctx context.Context, offer []byte) (*api.SuccessorMessage, error) {
	return call(ctx, a.socket(), api.CallSuccessor, api.SuccessorRequest{Offer: offer})
}

// AnswerUpgrade has the old agent verify a request, and seal the store to the key in it. Nothing
// is changed in the old store from then on.
func (a *Admin) AnswerUpgrade(ctx context.Context, request []byte) (*api.HandedOver, error) {
	return call(ctx, a.socket(), api.CallHandOver, api.HandOverRequest{Request: request})
}

// AcceptUpgrade takes the store over, which storeKey must have signed.
func (a *Admin) AcceptUpgrade(ctx context.Context, answer []byte, storeKey string) (*api.AcceptedUpgrade, error) {
	return call(ctx, a.socket(), api.CallAcceptUpgrade, api.AcceptUpgradeRequest{Answer: answer, StoreKey: storeKey})
}

// AbortUpgrade gives an upgrade up, on the side of the old agent.
func (a *Admin) AbortUpgrade(ctx context.Context) (*api.AbortedUpgrade, error) {
	return call(ctx, a.socket(), api.CallAbortUpgrade, api.None{})
}

// FinishUpgrade removes what the predecessor left, on the side of the successor.
func (a *Admin) FinishUpgrade(ctx context.Context) (*api.UpgradeStatus, error) {
	return call(ctx, a.socket(), api.CallFinishUpgrade, api.None{})
}
