// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// StatementType is the member "type" of every statement of this version.
const StatementType = "agentd/statement/2"

// Freshness names which report a caller accepts.
type Freshness string

const (
	Fresh    Freshness = "fresh"    // a report made for this batch
	Anchored Freshness = "anchored" // an earlier report may serve as anchor
)

// A Statement is what one caller asked the agent to attest. The agent encodes it once, as
// JSON. From then on only these exact bytes are hashed and carried.
type Statement struct {
	Type      string    `json:"type"`               // StatementType
	Nonce     Bytes     `json:"nonce"`              // 16 to 64 bytes, chosen by the verifier
	Audience  string    `json:"audience,omitzero"`  // name of the verifier, at most 256 bytes; another verifier refuses it
	UserData  Bytes     `json:"userData,omitzero"`  // up to 4 KiB, opaque to the agent
	PublicKey Bytes     `json:"publicKey,omitzero"` // up to 8 KiB, opaque to the agent; DER SubjectPublicKeyInfo by custom
	KeyProof  Bytes     `json:"keyProof,omitzero"`  // signature by the private half of PublicKey, up to 1 KiB; nil if the caller only names the key
	Freshness Freshness `json:"freshness"`          // what the caller asked for
	Salt      Bytes     `json:"salt"`               // 16 to 64 random bytes: hashes do not show what others of the batch asked for
	Caller    Caller    `json:"caller"`             // the process that asked, as the agent established it
}

// Method names how the agent tied a connection to a process.
type Method string

const (
	MethodPidfd     Method = "pidfd"      // SO_PEERPIDFD: the process that connected, or an error
	MethodStartTime Method = "start-time" // the start time is the same before and after the look-up; for kernels before 6.5
)

// A Caller is the process that asked, as the agent established it when it accepted the
// connection. The boundary is unit and uid. The executable is an observation only: a process
// can pass its connection to another process, or replace its own image.
type Caller struct {
	UID         uint32      `json:"uid"`                  // effective uid at connect (SO_PEERCRED), seen from the initial user namespace
	GID         uint32      `json:"gid"`                  // effective gid at connect
	PID         uint32      `json:"pid"`                  // number of the process as the agent sees it, 1 to 2^31 - 1
	Started     uint64      `json:"started"`              // when the process started: CLOCK_BOOTTIME in milliseconds, rounded down to 10
	UnitStarted *uint64     `json:"unitStarted,omitzero"` // when the earliest process of this run of Unit started that the agent saw; nil exactly if Unit is empty
	Unit        string      `json:"unit,omitzero"`        // systemd system unit; empty if the process is in none
	Invocation  Bytes       `json:"invocation,omitzero"`  // systemd's id of this run of Unit, 16 bytes; nil if it is not known
	App         string      `json:"app,omitzero"`         // declared application with this unit and user; empty if none
	Method      Method      `json:"method"`               // how connection and process were tied
	Container   *Container  `json:"container,omitzero"`   // container that the process is in, which the agent measured; nil if it is in none
	Executable  *Executable `json:"executable,omitzero"`  // observed image of the process; nil if it was not observed
}

// InUnit reports whether a caller in a unit is in the unit that an application is declared for:
// that unit itself, or a template of systemd that it is an instance of. The first "@" of a name
// begins the instance, and "worker@.service" is the template of "worker@1.service".
func InUnit(declared, unit string) bool {
	prefix, kind, at := strings.Cut(declared, "@")
	if !at || prefix == "" || !strings.HasPrefix(kind, ".") || strings.Contains(kind[1:], ".") {
		return declared == unit
	}
	return declared == unit || len(unit) > len(declared) && strings.HasPrefix(unit, prefix+"@") && strings.HasSuffix(unit, kind)
}

// An Executable is the image that the process ran when it connected.
type Executable struct {
	State   ExecutableState `json:"state"`           // kind of file
	Path    string          `json:"path,omitzero"`   // as /proc/PID/exe shows it, for people
	Digest  *Digest         `json:"digest,omitzero"` // SHA-256 of the content; nil if it could not be read
	Covered bool            `json:"covered"`         // the app's manifest lists exactly this content; libraries and scripts it loads are not looked at
}

// ExecutableState names what kind of file the image was.
type ExecutableState string

const (
	ExecutableFile       ExecutableState = "file"       // a file at its path
	ExecutableReplaced   ExecutableState = "replaced"   // unlinked or replaced since it was started, as upgrades do
	ExecutableMemfd      ExecutableState = "memfd"      // memory without a name in any file system
	ExecutableUnreadable ExecutableState = "unreadable" // could not be opened or hashed
)

// ParseStatement decodes the exact bytes of a statement, at most [MaxStatement], and checks
// them as [Statement.Check] does. The JSON is strict, as for [Parse].
func ParseStatement(b []byte) (*Statement, error) {
	s := Statement{Caller: Caller{UID: absent32, GID: absent32, Started: absent}}
	if err := strictjson.Decode(b, MaxStatement, &s); err != nil {
		return nil, fmt.Errorf("decode statement: %w", err)
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	return &s, nil
}

// usualStatement is room for most statements, in bytes.
const usualStatement = 512

// Encode checks s and returns its JSON. Hash and carry these bytes: never encode again.
func (s *Statement) Encode() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	e := encoder{b: make([]byte, 0, usualStatement)}
	s.encode(&e)
	if e.err != nil {
		return nil, fmt.Errorf("encode statement: %w", e.err)
	}
	return e.b, text.Size("statement", len(e.b), 1, MaxStatement)
}

// Check returns an error about the first member that the format does not allow.
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
		s.checkProof(),
		text.Size("salt", len(s.Salt), MinSalt, MaxSalt),
		text.Check("audience", s.Audience, 0, MaxAudience),
		s.Caller.check(),
	)
}

func (s *Statement) checkProof() error {
	if len(s.KeyProof) > 0 && len(s.PublicKey) == 0 {
		return errors.New("keyProof without publicKey: it proves that the caller has that key")
	}
	return text.Size("keyProof", len(s.KeyProof), 0, MaxKeyProof)
}

func (c *Caller) check() error {
	if c.Method != MethodPidfd && c.Method != MethodStartTime {
		return fmt.Errorf("caller.method %s is not known", text.Excerpt(c.Method))
	}
	for _, id := range []struct {
		part string
		got  uint32
	}{{"caller.uid", c.UID}, {"caller.gid", c.GID}} {
		if id.got == absent32 { // no user has it: setreuid(2) reads it as "no change"
			return fmt.Errorf("%s is missing, or %d", id.part, absent32)
		}
	}
	if c.PID < 1 || c.PID > math.MaxInt32 {
		return fmt.Errorf("caller.pid %d, want 1 to %d", c.PID, math.MaxInt32)
	}
	if err := milliseconds("caller.started", c.Started); err != nil {
		return err
	}
	switch {
	case c.App != "" && c.Unit == "" && c.Container == nil:
		return errors.New("caller.app without caller.unit and caller.container: an app is known by its unit, or by its container")
	case (c.UnitStarted == nil) != (c.Unit == ""):
		return errors.New("caller.unitStarted must be present exactly if caller.unit is")
	case c.UnitStarted != nil && *c.UnitStarted > c.Started:
		return fmt.Errorf("caller.unitStarted %d is after caller.started, %d", *c.UnitStarted, c.Started)
	case len(c.Invocation) != 0 && c.Unit == "":
		return errors.New("caller.invocation without caller.unit: it is the id of a run of that unit")
	case len(c.Invocation) != 0 && len(c.Invocation) != InvocationSize:
		return &text.SizeError{Part: "caller.invocation", Got: len(c.Invocation), Min: InvocationSize, Max: InvocationSize}
	}
	if c.Container != nil {
		if err := c.Container.check(); err != nil {
			return err
		}
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

// A Container is the container that a process is in, as the agent measured it before its first
// process ran: the log has an event of it.
type Container struct {
	Engine  string  `json:"engine"`         // one of Engines
	ID      string  `json:"id"`             // as the engine names it
	Started uint64  `json:"started"`        // when its first process started: CLOCK_BOOTTIME in milliseconds, rounded down to 10
	Root    Digest  `json:"root"`           // of its root file system, as in that event
	Image   *Digest `json:"image,omitzero"` // SHA-256 of the image's configuration, as in that event; nil if the engine does not say it
}

// Engines are the container engines that the agent knows.
var Engines = []string{"podman", "docker", "containerd", "cri-o"}

// MaxContainerID is the longest id of a container, in bytes.
const MaxContainerID = 128

// CheckContainerID checks engine and id of a container: letters, digits, "_", "." and "-", and
// neither of the last two first. Part names the object in the document.
func CheckContainerID(part, engine, id string) error {
	if !slices.Contains(Engines, engine) {
		return fmt.Errorf("%s.engine %s is not known", part, text.Excerpt(engine))
	}
	const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	if id == "" || len(id) > MaxContainerID || strings.ContainsAny(id[:1], ".-") || strings.Trim(id, alphanumeric+".-") != "" {
		return fmt.Errorf("%s.id %s is not the id of a container", part, text.Excerpt(id))
	}
	return nil
}

func (c *Container) check() error {
	if c.Root.IsZero() || c.Image != nil && c.Image.IsZero() {
		return errors.New("caller.container.root is missing, or zeros: no file system has that digest")
	}
	return cmp.Or(CheckContainerID("caller.container", c.Engine, c.ID), milliseconds("caller.container.started", c.Started))
}

// UnmarshalJSONFrom reads a container. One without a start is refused, and not one of 0.
func (c *Container) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type plain Container
	p := plain{Started: absent}
	if err := json.UnmarshalDecode(d, &p); err != nil {
		return err
	}
	*c = Container(p)
	return nil
}
