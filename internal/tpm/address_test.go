// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// TestCheckAddress: what Open cannot read is refused without opening anything. A path of a socket
// has room for 107 bytes.
func TestCheckAddress(t *testing.T) {
	for address, want := range map[string]bool{
		"/dev/tpmrm0": true,
		"fd:7":        true,
		"unix:/" + strings.Repeat("a", maxSocketPath-1): true,
		"unix:/" + strings.Repeat("a", maxSocketPath):   false,
		"unix:a": false,
		"tpm0":   false,
		"":       false,
	} {
		if err := CheckAddress(address); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestFlush: sessions are flushed only if no other program can have any.
func TestFlush(t *testing.T) {
	for exclusive, want := range map[bool][]uint32{false: {firstTransient}, true: {firstTransient, firstLoaded}} {
		var asked lister
		if err := (&Device{source: source{exclusive: exclusive}}).flush(&asked); err != nil || !slices.Equal(asked, want) {
			t.Errorf("exclusive %v: asked for handles from %#x, %v; want %#x", exclusive, asked, err, want)
		}
	}
}

// A lister is a TPM without any handle, which keeps the kinds that it was asked for.
type lister []uint32

func (l *lister) Send(command []byte) ([]byte, error) {
	*l = append(*l, binary.BigEndian.Uint32(command[14:])) // TPM2_GetCapability: property
	return []byte("\x80\x01\x00\x00\x00\x13\x00\x00\x00\x00" + "\x00" + "\x00\x00\x00\x01" + "\x00\x00\x00\x00"), nil
}
