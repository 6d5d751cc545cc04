// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/api"
)

// SlotKind says what a slot rests on.
type SlotKind uint8

// Kinds of slots, the strongest first. A recovery slot rests on no machine.
const (
	SlotSNPTPM   SlotKind = 1
	SlotSNP      SlotKind = 2
	SlotTPM      SlotKind = 3
	SlotRecovery SlotKind = 4
)

var slotNames = map[SlotKind]string{SlotSNPTPM: "snp+tpm", SlotSNP: "snp", SlotTPM: "tpm", SlotRecovery: "recovery"}

func (k SlotKind) String() string {
	if s, ok := slotNames[k]; ok {
		return s
	}
	return fmt.Sprintf("slot kind %d", uint8(k))
}

// SNP reports whether a slot of this kind rests on a key that SNP firmware derives.
func (k SlotKind) SNP() bool { return k == SlotSNPTPM || k == SlotSNP }

// TPM reports whether a slot of this kind rests on a secret in the TPM.
func (k SlotKind) TPM() bool { return k == SlotSNPTPM || k == SlotTPM }

// Slot describes one way to open a blob.
type Slot struct {
	Kind      SlotKind
	Salt      [saltSize]byte  // of the key derivation; zero for recovery
	Check     [CheckSize]byte // derived together with the key: tells a wrong key from changed content; zero for recovery
	Recipient string          // age X25519 recipient ("age1…"); recovery only
}

// encodeSlots returns the number of slots (1 byte), then for each its kind (1 byte) and, for
// recovery, length (2 bytes) and text of the recipient, otherwise salt and check.
func encodeSlots(slots []Slot) []byte {
	b := []byte{byte(len(slots))}
	for _, s := range slots {
		b = append(b, byte(s.Kind))
		if s.Kind == SlotRecovery {
			b = binary.BigEndian.AppendUint16(b, uint16(len(s.Recipient)))
			b = append(b, s.Recipient...)
			continue
		}
		b = append(append(b, s.Salt[:]...), s.Check[:]...)
	}
	return b
}

func readSlots(r *fieldReader) []Slot {
	b := r.next(tagSlots, 1, 1+MaxSlots*(1+2+MaxRecipient))
	if r.err != nil {
		return nil
	}
	n := int(b[0])
	if n > MaxSlots {
		r.fail(api.CodeMalformedBlob, tagSlots, fmt.Sprintf("%d slots, at most %d", n, MaxSlots))
		return nil
	}
	slots, err := parseSlots(b[1:], n)
	if err != nil {
		r.fail(api.CodeMalformedBlob, tagSlots, err.Error())
	}
	return slots
}

func parseSlots(b []byte, n int) ([]Slot, error) {
	var slots []Slot
	for i := range n {
		s, rest, err := parseSlot(b)
		if err != nil {
			return nil, fmt.Errorf("slot %d: %w", i, err)
		}
		if i > 0 && !slots[i-1].before(s) {
			return nil, fmt.Errorf("slot %d: slots are not in ascending order", i)
		}
		slots, b = append(slots, s), rest
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes after the last slot", len(b))
	}
	return slots, nil
}

func parseSlot(b []byte) (s Slot, rest []byte, err error) {
	if len(b) < 1 {
		return s, nil, fmt.Errorf("missing")
	}
	s.Kind, b = SlotKind(b[0]), b[1:]
	switch s.Kind {
	case SlotSNPTPM, SlotSNP, SlotTPM:
		if len(b) < saltSize+CheckSize {
			return s, nil, fmt.Errorf("cut short")
		}
		copy(s.Salt[:], b)
		copy(s.Check[:], b[saltSize:])
		return s, b[saltSize+CheckSize:], nil
	case SlotRecovery:
		if len(b) < 2 {
			return s, nil, fmt.Errorf("cut short")
		}
		size := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; size > MaxRecipient || size > len(b) {
			return s, nil, fmt.Errorf("recipient of %d bytes, want at most %d and the rest of the field", size, MaxRecipient)
		}
		s.Recipient = string(b[:size])
		if _, err := ParseRecipient(s.Recipient); err != nil {
			return s, nil, err
		}
		return s, b[size:], nil
	}
	return s, nil, fmt.Errorf("unknown kind %d", s.Kind)
}

// before reports whether s comes before t. Of two equal slots neither does.
func (s Slot) before(t Slot) bool {
	if s.Kind != t.Kind {
		return s.Kind < t.Kind
	}
	return s.Recipient < t.Recipient
}

// ParseRecipient parses an age X25519 recipient in its one spelling. The error does not
// repeat the text: it may be the identity, pasted by mistake, and errors end in logs.
func ParseRecipient(text string) (*age.X25519Recipient, error) {
	r, err := age.ParseX25519Recipient(text)
	if err == nil && bytes.Equal([]byte(r.String()), []byte(text)) {
		return r, nil
	}
	if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(text)), "AGE-SECRET-KEY-") {
		return nil, errors.New("want an age X25519 recipient (age1…), found an identity, which is the secret half: age-keygen -y prints its recipient")
	}
	return nil, fmt.Errorf("want an age X25519 recipient (age1…), found %d bytes of text: age-keygen -y prints that of an identity", len(text))
}
