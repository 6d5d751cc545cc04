// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/cvm-agentd/agentd/sealing"
)

// A Deriver asks the SNP firmware for the key of this guest on this chip.
type Deriver interface {
	// DeriveKey returns 32 bytes, which the caller overwrites. The TCB version is the
	// only choice there is: launch measurement, guest policy, that TCB and the VM
	// privilege level are always mixed in, and the root is always the VCEK (SNP
	// firmware ABI, MSG_KEY_REQ: guest_field_select bits 0, 3 and 5, KEY_SEL 1). A
	// firmware status other than zero is an error. If it detects an all-zero key, the code
	// is [api.CodeBadDerivedKey].
	DeriveKey(ctx context.Context, tcb uint64) ([]byte, error)
}

// A Platform is a machine with SNP: it derives keys and says what its report says.
type Platform interface {
	Deriver
	// Reading asks for a report. The store uses it to explain, and never to decide about
	// a key: a key that was derived for other values differs.
	Reading(ctx context.Context) (sealing.Reading, error)
}
