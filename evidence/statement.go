// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// StatementType is the member "type" of every statement of this version.
const StatementType = "agentd/statement/1"

// Freshness says which report a caller asked to stand on.
type Freshness string

const (
	Fresh    Freshness = "fresh"    // a report made for this batch
	Anchored Freshness = "anchored" // an earlier report may serve as anchor
)

// A Statement is what one caller asked to have attested. It is encoded once, as
// JSON, by the agent; from then on only these exact bytes are hashed and carried.
type Statement struct {
	Type      string    `json:"type"`               // StatementType
	Nonce     Bytes     `json:"nonce"`              // 16 to 64 bytes, chosen by who wants to be convinced
	Audience  string    `json:"audience,omitzero"`  // for whom, at most 256 bytes; a verifier refuses another name
	UserData  Bytes     `json:"userData,omitzero"`  // up to 4 KiB, opaque
	PublicKey Bytes     `json:"publicKey,omitzero"` // up to 8 KiB, opaque to the agent; DER SubjectPublicKeyInfo by custom
	Freshness Freshness `json:"freshness"`          // what the caller asked for
	Salt      Bytes     `json:"salt"`               // 16 to 64 random bytes: neighbours in the batch cannot be guessed from hashes
	Caller    Caller    `json:"caller"`             // who asked, as the agent established it
}

// Method says how the agent tied a connection to a process.
type Method string

const (
	MethodPidfd     Method = "pidfd"      // SO_PEERPIDFD: the process that connected, or nobody
	MethodStartTime Method = "start-time" // start time read twice around the look-up, on kernels before 6.5
)

// Caller is who asked, established by the agent when the connection was accepted.
// The boundary is unit and uid; the executable is an observation only, since a
// process can hand its connection to another or replace its own image.
type Caller struct {
	UID        uint32      `json:"uid"`                 // effective uid at connect (SO_PEERCRED), seen from the initial user namespace
	GID        uint32      `json:"gid"`                 // effective gid at connect
	Unit       string      `json:"unit,omitzero"`       // systemd system unit; absent where there is none
	App        string      `json:"app,omitzero"`        // declared application whose unit and user these are
	Method     Method      `json:"method"`              // how connection and process were tied
	Executable *Executable `json:"executable,omitzero"` // observed image of the process, where it could be read
}

// Executable is the image that the process was seen to run when it connected.
type Executable struct {
	State   ExecutableState `json:"state"`           // kind of file
	Path    string          `json:"path,omitzero"`   // as /proc/PID/exe shows it, for people
	Digest  *Digest         `json:"digest,omitzero"` // SHA-256 of the content, where it was read
	Covered bool            `json:"covered"`         // the app's manifest lists exactly this content; libraries and scripts it loads are not looked at
}

// ExecutableState says what kind of file the image was.
type ExecutableState string

const (
	ExecutableFile       ExecutableState = "file"       // a file that still has its name
	ExecutableReplaced   ExecutableState = "replaced"   // unlinked or replaced since it was started, as upgrades do
	ExecutableMemfd      ExecutableState = "memfd"      // memory without a name in any file system
	ExecutableUnreadable ExecutableState = "unreadable" // could not be opened or hashed
)

// ParseStatement decodes and checks the exact bytes of a statement.
func ParseStatement(b []byte) (*Statement, error) {
	s := Statement{Caller: Caller{UID: absent32, GID: absent32}}
	if err := strictjson.Decode(b, MaxStatement, &s); err != nil {
		return nil, fmt.Errorf("decode statement: %w", err)
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	return &s, nil
}

// Encode checks s and returns the bytes that stand for it from now on.
func (s *Statement) Encode() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	b, err := strictjson.Encode(s)
	if err != nil {
		return nil, fmt.Errorf("encode statement: %w", err)
	}
	return b, text.Size("statement", len(b), 1, MaxStatement)
}

// Check reports the first member that the format does not allow.
func (s *Statement) Check() error {
	if s.Type != StatementType {
		return fmt.Errorf("type %s, want %q", text.Excerpt(s.Type), StatementType)
	}
	if s.Freshness != Fresh && s.Freshness != Anchored {
		return fmt.Errorf("freshness %s, want %q or %q", text.Excerpt(s.Freshness), Fresh, Anchored)
	}
	return cmp.Or(
		text.Size("nonce", len(s.Nonce), MinNonce, MaxNonce),
		text.Size("userData", len(s.UserData), 0, MaxUserData),
		text.Size("publicKey", len(s.PublicKey), 0, MaxPublicKey),
		text.Size("salt", len(s.Salt), MinSalt, MaxSalt),
		text.Check("audience", s.Audience, 0, MaxAudience),
		s.Caller.check(),
	)
}

func (c *Caller) check() error {
	if c.Method != MethodPidfd && c.Method != MethodStartTime {
		return fmt.Errorf("caller.method %s is not known", text.Excerpt(c.Method))
	}
	for _, id := range []struct {
		part string
		got  uint32
	}{{"caller.uid", c.UID}, {"caller.gid", c.GID}} {
		if id.got == absent32 { // which is nobody's: setreuid(2) takes it for "no change"
			return fmt.Errorf("%s is missing, or %d", id.part, absent32)
		}
	}
	if c.App != "" && c.Unit == "" {
		return errors.New("caller.app without caller.unit: an app is known by its unit")
	}
	if x := c.Executable; x != nil {
		switch x.State {
		case ExecutableFile, ExecutableReplaced, ExecutableMemfd, ExecutableUnreadable:
		default:
			return fmt.Errorf("caller.executable.state %s is not known", text.Excerpt(x.State))
		}
		if err := text.Check("caller.executable.path", x.Path, 0, MaxPath); err != nil {
			return err
		}
	}
	return cmp.Or(text.Check("caller.unit", c.Unit, 0, MaxName), text.Check("caller.app", c.App, 0, MaxName))
}
