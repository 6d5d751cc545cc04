// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Caps on what an application has recorded.
const (
	MaxDomain  = 128     // bytes of a domain
	MaxEmitted = 1 << 10 // bytes of a content
)

// reservedDomain begins domains that no application may use: what the agent says in its own log has
// types of its own, and must not be imitated.
const reservedDomain = "agentd/"

// EmittedEvent is what an application asked the agent to record. That its words are true is the
// application's claim. The agent vouches for who said them, and when.
type EmittedEvent struct {
	App       string            `json:"app"`                // name of the application; its declaration is in force
	Unit      string            `json:"unit,omitzero"`      // systemd system unit of the caller, the instance of a template; empty if there is a container
	Container *EmittedContainer `json:"container,omitzero"` // that the caller is in; nil if there is a unit
	UID       uint32            `json:"uid"`                // of the caller: the user of the application
	Domain    string            `json:"domain"`             // what the words are about, 1 to MaxDomain bytes; each application has its own
	Content   evidence.Bytes    `json:"content,omitzero"`   // the words, 1 to MaxEmitted bytes; nil if there is a digest
	Digest    *evidence.Digest  `json:"digest,omitzero"`    // in place of the words; nil if there is a content
}

// EmittedContainer names the container that an event came from: its last start in the log.
type EmittedContainer struct {
	Engine string `json:"engine"` // of [evidence.Engines]
	ID     string `json:"id"`     // that the engine gave it
}

// Value returns what rules compare: the digest, or SHA-256 of the content.
func (e *EmittedEvent) Value() evidence.Digest {
	if e.Digest != nil {
		return *e.Digest
	}
	return sha256.Sum256(e.Content)
}

// CheckDomain checks the domain of an event that an application asks for.
func CheckDomain(domain string) error {
	if err := text.Check("domain", domain, 1, MaxDomain); err != nil {
		return err
	}
	if strings.HasPrefix(domain, reservedDomain) {
		return fmt.Errorf("domains that begin with %q are the agent's own", reservedDomain)
	}
	return nil
}

// CheckSaid checks that an event has a content or a digest, and not both.
func CheckSaid(content evidence.Bytes, digest *evidence.Digest) error {
	switch {
	case (content == nil) == (digest == nil):
		return errors.New("want content or digest, and exactly one of them")
	case content != nil:
		return text.Size("content", len(content), 1, MaxEmitted)
	}
	return nil
}

func (e *EmittedEvent) check() error {
	if e.UID == math.MaxUint32 {
		return fmt.Errorf("emitted.uid %d is not that of a user", e.UID)
	}
	return cmp.Or(name("emitted.app", e.App), e.checkOrigin(), CheckDomain(e.Domain), CheckSaid(e.Content, e.Digest))
}

// checkOrigin checks that the event came from a unit or from a container, and not from both.
func (e *EmittedEvent) checkOrigin() error {
	if c := e.Container; c == nil {
		return name("emitted.unit", e.Unit)
	} else if e.Unit != "" {
		return errors.New("emitted.unit and emitted.container are both there")
	} else {
		return evidence.CheckContainerID("emitted.container", c.Engine, c.ID)
	}
}
