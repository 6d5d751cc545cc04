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

func (a *Admin) socket() socket { return socket{&a.transport, adminSocket, a.Socket} }

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

// Close closes connections that are kept for later requests.
func (a *Admin) Close() { a.transport.close() }
