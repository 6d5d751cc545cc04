// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"
	"log/slog"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Identities are the private halves of recovery recipients: all of them secrets.
type Identities struct {
	_   [0]func()
	ids *[]age.Identity // a pointer, so that printing shows an address at most
}

// ParseIdentities parses an identity file as age-keygen writes it: one AGE-SECRET-KEY-1…
// on each line. It skips empty lines and those that begin with #. The caller clears b.
func ParseIdentities(b []byte) (*Identities, error) {
	if len(b) > sealing.MaxIdentityFile {
		return nil, &sealing.Error{Code: api.CodeInvalidValue, Detail: fmt.Sprintf("identity file of %d bytes, at most %d", len(b), sealing.MaxIdentityFile)}
	}
	var ids []age.Identity
	for i, line := range bytes.Split(b, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, err := age.ParseX25519Identity(string(line))
		if err != nil {
			// The library's error may quote the line.
			return nil, &sealing.Error{Code: api.CodeInvalidValue, Detail: fmt.Sprintf("line %d of the identity file is not an age X25519 identity", i+1)}
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, &sealing.Error{Code: api.CodeInvalidValue, Detail: "the identity file contains no identity"}
	}
	return &Identities{ids: &ids}, nil
}

func (i *Identities) list() []age.Identity { return *i.ids }

// Format prints a placeholder under every verb.
func (i Identities) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[identities]") }

// LogValue returns a placeholder.
func (i Identities) LogValue() slog.Value { return slog.StringValue("[identities]") }

// MarshalText refuses.
func (i Identities) MarshalText() ([]byte, error) { return nil, secret.ErrNoEncoding }
