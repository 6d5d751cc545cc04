// SPDX-License-Identifier: Apache-2.0

package unitname

import (
	"fmt"
	"strings"
)

// CredentialsSocket is the path at which units ask the agent for credentials, unless its
// configuration names another one: LoadCredential=NAME:/run/agentd/credentials.sock.
const CredentialsSocket = "/run/agentd/credentials.sock"

// MaxCredential is the longest name of a credential of the agent, in bytes.
const MaxCredential = 200

// CheckCredential refuses a name that a credential of the agent cannot have. Each that it accepts
// is one to systemd too (systemd.exec(5), LoadCredential=), and needs no quotes in a unit file.
func CheckCredential(name string) error {
	if name == "" || len(name) > MaxCredential {
		return fmt.Errorf("a name of %d bytes, want 1 to %d", len(name), MaxCredential)
	}
	if strings.IndexByte(".-+@", name[0]) >= 0 {
		return fmt.Errorf("name %q begins with %q, want a letter, a digit or _", name, name[:1])
	}
	for i := range len(name) {
		if c := name[i]; c == ':' || c == '\\' || !allowed(c) && c != '+' {
			return fmt.Errorf("name %q contains %q, want letters, digits and _.-+@", name, name[i:i+1])
		}
	}
	return nil
}
