// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"cmp"
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

func readSlots(r *fieldReader) (slots []Slot) {
	b := &byteReader{rest: r.next(tagSlots, 1, 1+MaxSlots*(1+2+MaxRecipient))}
	if r.err != nil {
		return nil
	}
	bad := func(format string, args ...any) []Slot {
		r.fail(api.CodeMalformedBlob, tagSlots, fmt.Sprintf(format, args...))
		return nil
	}
	n := b.number(1)
	if n > MaxSlots {
		return bad("%d slots, at most %d", n, MaxSlots)
	}
	for i := range n {
		s, err := readSlot(b)
		if err != nil {
			return bad("slot %d: %v", i, err)
		}
		if i > 0 && slots[i-1].compare(s) >= 0 {
			return bad("slot %d: slots are not in ascending order", i)
		}
		slots = append(slots, s)
	}
	if len(b.rest) > 0 {
		return bad("%d bytes after the last slot", len(b.rest))
	}
	return slots
}

func readSlot(b *byteReader) (s Slot, err error) {
	s.Kind = SlotKind(b.number(1))
	switch s.Kind {
	case SlotSNPTPM, SlotSNP, SlotTPM:
		copy(s.Salt[:], b.take(saltSize))
		copy(s.Check[:], b.take(CheckSize))
	case SlotRecovery:
		size := int(b.number(2))
		if size > MaxRecipient {
			return s, fmt.Errorf("recipient of %d bytes, at most %d", size, MaxRecipient)
		}
		if s.Recipient = string(b.take(size)); !b.short {
			_, err = ParseRecipient(s.Recipient)
		}
	default:
		if !b.short {
			err = fmt.Errorf("unknown kind %d", s.Kind)
		}
	}
	if b.short {
		err = errors.New("cut short")
	}
	return s, err
}

// compare orders slots by kind, then recipient.
func (s Slot) compare(t Slot) int {
	return cmp.Or(cmp.Compare(s.Kind, t.Kind), strings.Compare(s.Recipient, t.Recipient))
}

// ParseRecipient parses an age X25519 recipient in its one spelling. The error does not
// repeat the text: it may be the identity, pasted by mistake, and errors end in logs.
func ParseRecipient(text string) (*age.X25519Recipient, error) {
	r, err := age.ParseX25519Recipient(text)
	if err == nil && r.String() == text {
		return r, nil
	}
	if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(text)), "AGE-SECRET-KEY-") {
		return nil, errors.New("want an age X25519 recipient (age1…), found an identity, which is the secret half: age-keygen -y prints its recipient")
	}
	return nil, fmt.Errorf("want an age X25519 recipient (age1…), found %d bytes of text: age-keygen -y prints that of an identity", len(text))
}
