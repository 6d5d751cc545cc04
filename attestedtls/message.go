// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/go-json-experiment/json/jsontext"

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
	kindHello     kind = "hello"
	kindEvidence  kind = "evidence"
	kindContinued kind = "continued"
	kindVerdict   kind = "verdict"
	kindStart     kind = "start"
	kindRefused   kind = "refused"
)

// message is any message.
type message interface {
	kind() kind
	check() error
}

func (*hello) kind() kind     { return kindHello }
func (*shown) kind() kind     { return kindEvidence }
func (*continued) kind() kind { return kindContinued }
func (*verdict) kind() kind   { return kindVerdict }
func (*start) kind() kind     { return kindStart }
func (*refused) kind() kind   { return kindRefused }

// Messages (docs/attested-tls.md, section 4).
type (
	hello struct {
		Type        kind  `json:"type"`
		Application name  `json:"application,omitzero"`
		Attests     yes   `json:"attests,omitzero"`
		Verify      *wish `json:"verify,omitzero"`
	}
	// wish is what an end wants to see of the other.
	wish struct {
		Role        role               `json:"role"`
		Nonce       evidence.Bytes     `json:"nonce"`
		Audience    name               `json:"audience,omitzero"`
		Freshness   evidence.Freshness `json:"freshness"`
		FirmwareLog yes                `json:"firmwareLog,omitzero"`
		Continue    []offer            `json:"continue,omitzero"` // empty and not nil: none yet
	}
	// offer is evidence that an end would go on with.
	offer struct {
		Session  evidence.Bytes  `json:"session"`
		Evidence evidence.Digest `json:"evidence"`
	}
	shown struct {
		Type     kind           `json:"type"`
		Document evidence.Bytes `json:"document"`
		Session  evidence.Bytes `json:"session,omitzero"`
		Secret   evidence.Bytes `json:"secret,omitzero"`
	}
	continued struct {
		Type     kind            `json:"type"`
		Session  evidence.Bytes  `json:"session"`
		Evidence evidence.Digest `json:"evidence"`
		Salt     evidence.Bytes  `json:"salt"`
		Proof    evidence.Bytes  `json:"proof"`
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

// name is text that is absent or not empty, so that an empty one has one spelling.
type name string

// UnmarshalText refuses an empty text.
func (n *name) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		return errors.New("an empty text, want none")
	}
	*n = name(b)
	return nil
}

// yes is true, or absent.
type yes bool

// UnmarshalJSONFrom refuses all but true.
func (y *yes) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	t, err := d.ReadToken()
	if err == nil && t.Kind() != jsontext.KindTrue {
		err = errors.New("want true, or no such member")
	}
	*y = err == nil
	return err
}

func (m *hello) check() error {
	if m.Application != "" {
		if err := text.Check("application", string(m.Application), 1, maxName); err != nil {
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
	case w.Continue != nil && w.Freshness == evidence.Fresh:
		return errors.New("verify.continue beside verify.freshness \"fresh\"")
	case len(w.Continue) > maxOffers:
		return fmt.Errorf("verify.continue has %d offers, at most %d", len(w.Continue), maxOffers)
	}
	for _, o := range w.Continue {
		if err := size("verify.continue.session", o.Session, sessionSize); err != nil {
			return err
		}
	}
	if w.Audience != "" {
		return text.Check("verify.audience", string(w.Audience), 1, evidence.MaxAudience)
	}
	return nil
}

func (m *shown) check() error {
	switch {
	case len(m.Document) == 0:
		return errors.New("no document")
	case m.Session == nil && m.Secret == nil:
		return nil
	}
	return cmp.Or(size("session", m.Session, sessionSize), size("secret", m.Secret, nonceSize))
}

func (m *continued) check() error {
	return cmp.Or(size("session", m.Session, sessionSize), size("salt", m.Salt, nonceSize), size("proof", m.Proof, nonceSize))
}

func (m *verdict) check() error {
	if m.Evidence.IsZero() {
		return errors.New("no digest of the evidence")
	}
	return size("confirm", m.Confirm, nonceSize)
}

func (m *start) check() error {
	if m.Confirm == nil {
		return nil
	}
	return size("confirm", m.Confirm, nonceSize)
}

// size checks the size of a byte string.
func size(name string, b []byte, want int) error {
	if len(b) != want {
		return fmt.Errorf("%s of %d bytes, want %d", name, len(b), want)
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

// decode reads a message that is due into the one of into with its type, and returns its place
// there. The other end may send a refusal in its place, which is the error.
func decode(b []byte, into ...message) (which int, err error) {
	var head struct {
		Type kind `json:"type"`
	}
	if err := strictjson.DecodeForeign(b, len(b), &head); err != nil {
		return 0, refuse(CodeMessage, "read a message: %w", err)
	}
	which = slices.IndexFunc(into, func(m message) bool { return m.kind() == head.Type })
	m := message(new(refused))
	switch {
	case which >= 0:
		m = into[which]
	case head.Type != kindRefused:
		return 0, refuse(CodeUnexpected, "the other end sent a message of type %s, want %s", text.Excerpt(head.Type), into[0].kind())
	}
	if m.kind() != kindEvidence && len(b) > maxMessage {
		return 0, refuse(CodeFrame, "a message of type %s of %d bytes, want at most %d", head.Type, len(b), maxMessage)
	}
	if err := strictjson.Decode(b, len(b), m); err != nil {
		return 0, refuse(CodeMessage, "read a message of type %s: %w", head.Type, err)
	}
	if err := m.check(); err != nil {
		return 0, refuse(CodeMessage, "read a message of type %s: %w", head.Type, err)
	}
	if r, is := m.(*refused); is {
		return 0, &Error{Code: r.Code, Remote: true}
	}
	return which, nil
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
func (f *frame) read(r io.Reader, most int, large func(size int) error) ([]byte, error) {
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
				if err := large(size); err != nil {
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
