// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// Admin asks over the admin socket. As with [Client] the zero value is ready for use.
type Admin struct {
	// Socket is the path of the admin socket. Empty: the environment variable
	// AGENTD_ADMIN_SOCKET, and without that api.AdminSocket.
	Socket string

	transport transport
}

// Apps lists the declared applications.
func (a *Admin) Apps(ctx context.Context) ([]api.App, error) {
	out, err := decode[api.Apps](a.do(ctx, "GET", api.PathApps, nil))
	if err != nil {
		return nil, err
	}
	return out.Apps, nil
}

// Measure measures the app called name now and returns once the log holds the result.
func (a *Admin) Measure(ctx context.Context, name string) (*api.App, error) {
	target := strings.Replace(api.PathMeasure, "{name}", url.PathEscape(name), 1)
	return decode[api.App](a.do(ctx, "POST", target, nil))
}

// Reload has the declarations read again.
func (a *Admin) Reload(ctx context.Context) (*api.Reloaded, error) {
	return decode[api.Reloaded](a.do(ctx, "POST", api.PathReload, nil))
}

// Activate has the TPM open a credential, which proves that AK and EK share it.
func (a *Admin) Activate(ctx context.Context, r api.ActivateRequest) ([]byte, error) {
	out, err := decode[api.Activated](a.do(ctx, "POST", api.PathActivate, r))
	if err != nil {
		return nil, err
	}
	return out.Secret, nil
}

// ReplaceAK makes a new attestation key in the place of a stored one that this TPM does
// not load, which stays in a file. Verifiers have to enrol the new one.
func (a *Admin) ReplaceAK(ctx context.Context) (*api.Replaced, error) {
	return decode[api.Replaced](a.do(ctx, "POST", api.PathReplace, nil))
}

// Close closes connections that are kept for later requests.
func (a *Admin) Close() { a.transport.close() }

func (a *Admin) do(ctx context.Context, method, target string, body any) ([]byte, error) {
	return a.transport.do(ctx, adminSocket, a.Socket, method, target, body, maxAnswer)
}
