// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/bits"
	"strings"
)

// capabilities is a set of what an attacker can do beyond what every attacker can: see and
// replay all messages, run guests of another launch measurement, have attestation and agent
// keys of its own, be another verifier, and run processes on both guests under any uid.
type capabilities uint16

// The capabilities on guest A. Those on guest B follow, at onB.
const (
	device   capabilities = 1 << iota // a program that can open the TPM: quotes and extends what it likes, from any moment on
	leaked                            // the agent key of a run that goes on
	old                               // the agent key of a run that has ended
	root                              // root of the guest from the event "root" until the next boot: report, TPM device, memory of the agent
	vtpm                              // the attestation key itself: quotes that say anything
	clock                             // the clock of the guest: a host without Secure TSC slows and stops it
	perGuest = iota
	onB      = perGuest
)

var capabilityNames = [perGuest]string{"tpm-device", "agent-key", "ended-key", "root", "vtpm", "guest-clock"}

// on returns the capability on a guest.
func (c capabilities) on(g int8) capabilities { return c << (onB * g) }

// seenFrom returns the capabilities with those of guest g first.
func (c capabilities) seenFrom(g int8) capabilities {
	const low = 1<<onB - 1
	if g == guestB {
		return c>>onB&low | c<<onB&(low<<onB)
	}
	return c
}

// String returns the names. Capabilities on the guest that the report is of come without a
// mark, those on the other guest of the same launch measurement with "twin's".
func (c capabilities) String() string {
	if c == 0 {
		return "any attacker"
	}
	var names []string
	for ; c != 0; c &= c - 1 {
		bit := bits.TrailingZeros16(uint16(c))
		name := capabilityNames[bit%onB]
		if bit >= onB {
			name = "twin's " + name
		}
		names = append(names, name)
	}
	return strings.Join(names, " + ")
}

// A breach is a set of capabilities that breaks a property, and how.
type breach struct {
	need  capabilities
	trace string
}

// boundary is the list of the smallest sets of capabilities that break a property: none
// contains another.
type boundary []breach

// covers reports whether a set in b is contained in need.
func (b boundary) covers(need capabilities) bool {
	for _, x := range b {
		if x.need&^need == 0 {
			return true
		}
	}
	return false
}

// add adds a set that b does not cover, and removes those that contain it.
func (b *boundary) add(x breach) {
	kept := (*b)[:0]
	for _, y := range *b {
		if x.need&^y.need != 0 {
			kept = append(kept, y)
		}
	}
	*b = append(kept, x)
}
