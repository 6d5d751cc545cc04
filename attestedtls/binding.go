// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"crypto/tls"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
)

// Protocol is the ALPN of a connection of this kind (docs/attested-tls.md, section 2).
const Protocol = "agentd/1"

// label begins user data, and is that of the hash in it. It changes with each version.
const label = "agentd/attested-tls/1"

// The exporter (RFC 9266).
const (
	exporterLabel = "EXPORTER-Channel-Binding"
	exporterSize  = 32
)

// A role of an end.
type role string

const (
	roleClient role = "client"
	roleServer role = "server"
)

func (r role) other() role {
	if r == roleClient {
		return roleServer
	}
	return roleClient
}

// exporter returns the value that both ends of this connection share, and no other connection
// has.
func exporter(s *tls.ConnectionState) ([]byte, error) {
	b, err := s.ExportKeyingMaterial(exporterLabel, nil, exporterSize)
	if err != nil {
		return nil, fmt.Errorf("export keying material: %w", err)
	}
	return b, nil
}

// userData returns the user data of evidence that an end in this role shows on the connection
// with this exporter.
func userData(r role, exporter []byte) []byte {
	hash := evidence.Sum256(label, []byte(r), exporter)
	return append(prefix(r), hash[:]...)
}

// prefix returns the part of user data before the hash.
func prefix(r role) []byte { return []byte(label + "\x00" + string(r) + "\x00") }

// misbound says why user data is not that of an end in role r on this connection.
func misbound(got []byte, r role, exporter []byte) Code {
	switch {
	case bytes.Equal(got, userData(r, exporter)):
		return ""
	case len(got) != len(userData(r, exporter)) || !bytes.HasPrefix(got, []byte(label+"\x00")):
		return CodeUserData
	case !bytes.HasPrefix(got, prefix(r)):
		return CodeRole
	}
	return CodeExporter
}
