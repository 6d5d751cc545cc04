// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Sizes (docs/attested-tls.md, sections 3 and 6).
const (
	maxMessage   = 64 << 10 // bytes of a message other than evidence
	restOfFrame  = 4 << 10  // bytes of a message with evidence, besides the document in base64
	nonceSize    = 32       // bytes of a nonce, and of confirm
	maxName      = 64       // bytes of the name of an application's protocol
	maxCode      = 32       // bytes of a code
	leastLargest = 2 << 20  // the least limit for evidence, in bytes
)

// kind is the type of a message.
type kind string

const (
	kindHello    kind = "hello"
	kindEvidence kind = "evidence"
	kindVerdict  kind = "verdict"
	kindStart    kind = "start"
	kindRefused  kind = "refused"
)

// message is any message.
type message interface{ check() error }

// Messages (docs/attested-tls.md, section 4).
type (
	hello struct {
		Type        kind   `json:"type"`
		Application string `json:"application,omitzero"`
		Attests     bool   `json:"attests,omitzero"`
		Verify      *wish  `json:"verify,omitzero"`
	}
	// wish is what an end wants to see of the other.
	wish struct {
		Role        role               `json:"role"`
		Nonce       evidence.Bytes     `json:"nonce"`
		Audience    string             `json:"audience,omitzero"`
		Freshness   evidence.Freshness `json:"freshness"`
		FirmwareLog bool               `json:"firmwareLog,omitzero"`
	}
	shown struct {
		Type     kind           `json:"type"`
		Document evidence.Bytes `json:"document"`
	}
	verdict struct {
		Type     kind            `json:"type"`
		Evidence evidence.Digest `json:"evidence"`
		Confirm  evidence.Bytes  `json:"confirm"`
	}
	start struct {
		Type    kind           `json:"type"`
		Confirm evidence.Bytes `json:"confirm,omitzero"`
	}
	refused struct {
		Type kind `json:"type"`
		Code Code `json:"code"`
	}
)

func (m *hello) check() error {
	if m.Application != "" {
		if err := text.Check("application", m.Application, 1, maxName); err != nil {
			return err
		}
	}
	if m.Verify == nil {
		return nil
	}
	w := m.Verify
	switch {
	case w.Role != roleClient && w.Role != roleServer:
		return errors.New("verify.role is neither client nor server")
	case len(w.Nonce) != nonceSize:
		return fmt.Errorf("verify.nonce of %d bytes, want %d", len(w.Nonce), nonceSize)
	case w.Freshness != evidence.Fresh && w.Freshness != evidence.Anchored:
		return errors.New("verify.freshness is neither fresh nor anchored")
	case w.Audience != "":
		return text.Check("verify.audience", w.Audience, 1, evidence.MaxAudience)
	}
	return nil
}

func (m *shown) check() error {
	if len(m.Document) == 0 {
		return errors.New("no document")
	}
	return nil
}

func (m *verdict) check() error {
	if m.Evidence.IsZero() {
		return errors.New("no digest of the evidence")
	}
	return confirmSize(m.Confirm)
}

func (m *start) check() error {
	if m.Confirm == nil {
		return nil
	}
	return confirmSize(m.Confirm)
}

func confirmSize(b []byte) error {
	if len(b) != nonceSize {
		return fmt.Errorf("confirm of %d bytes, want %d", len(b), nonceSize)
	}
	return nil
}

func (m *refused) check() error {
	if len(m.Code) == 0 || len(m.Code) > maxCode || slices.ContainsFunc([]byte(m.Code), func(c byte) bool { return c != '-' && (c < 'a' || c > 'z') }) {
		return errors.New("code is not 1 to 32 characters of a to z and -")
	}
	return nil
}

// encode returns the frame of a message.
func encode(m any) ([]byte, error) {
	b, err := strictjson.Encode(m)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...), nil
}

// decode reads the message that is due. The other end may send a refusal in its place, which is
// the error.
func decode(b []byte, due kind, into message) error {
	var head struct {
		Type kind `json:"type"`
	}
	if err := strictjson.DecodeForeign(b, len(b), &head); err != nil {
		return refuse(CodeMessage, "read a message: %w", err)
	}
	if head.Type == kindRefused {
		into = new(refused)
	} else if head.Type != due {
		return refuse(CodeUnexpected, "the other end sent a message of type %s, want %s", text.Excerpt(head.Type), due)
	}
	if err := strictjson.Decode(b, len(b), into); err != nil {
		return refuse(CodeMessage, "read a message of type %s: %w", head.Type, err)
	}
	if err := into.check(); err != nil {
		return refuse(CodeMessage, "read a message of type %s: %w", head.Type, err)
	}
	if r, is := into.(*refused); is {
		return &Error{Code: r.Code, Remote: true}
	}
	return nil
}

// frame is one frame while it arrives. A deadline may interrupt its reading, which then goes on
// later.
type frame struct {
	head [4]byte
	have int // bytes of head and body that were read
	body []byte
}

// firstPart is how much of a body is allocated before any of it came.
const firstPart = 4 << 10

// read reads the frame from r, and no byte more. It allocates as bytes arrive. Large is called
// once before more than maxMessage bytes are read; its error ends the reading.
func (f *frame) read(r io.Reader, most int, large func() error) ([]byte, error) {
	for f.have < len(f.head) {
		n, err := r.Read(f.head[f.have:])
		if f.have += n; err != nil && f.have < len(f.head) {
			return nil, err
		}
	}
	size := int(binary.BigEndian.Uint32(f.head[:]))
	if size < 2 || size > most {
		return nil, refuse(CodeFrame, "a message of %d bytes, want 2 to %d", uint32(size), most)
	}
	for {
		got := f.have - len(f.head)
		if got == size {
			return f.body[:size], nil
		}
		if got == len(f.body) {
			grow := min(size-got, max(firstPart, got))
			if large != nil && got+grow > maxMessage {
				if err := large(); err != nil {
					return nil, err
				}
				large = nil
			}
			f.body = append(f.body, make([]byte, grow)...)
		}
		n, err := r.Read(f.body[got:])
		if f.have += n; err != nil && f.have-len(f.head) < size {
			return nil, err
		}
	}
}

// ended reports whether err is the end of the connection.
func ended(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
