// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"

	"github.com/cvm-agentd/agentd/pcr"
)

// TPM is the part of the TPM that the ledger uses. No other user of the device may come
// between the commands of one call.
type TPM interface {
	// Banks lists the active banks. One that cannot be hashed is an error.
	Banks(ctx context.Context) ([]pcr.Algorithm, error)
	// Read returns the value of one PCR in every active bank.
	Read(ctx context.Context, index uint32) ([]pcr.Digest, error)
	// Extend extends one PCR in every active bank with one command. After an error it may
	// have taken effect.
	Extend(ctx context.Context, index uint32, digests []pcr.Digest) error
	// Boot returns which boot this is.
	Boot(ctx context.Context) (Boot, error)
}

// Boot names a boot of the TPM as a quote by the AK shows it.
type Boot struct {
	AKName       []byte
	ResetCount   uint32 // TPMS_CLOCK_INFO.resetCount, obfuscated: compares only under one AK
	RestartCount uint32 // TPMS_CLOCK_INFO.restartCount, likewise
}

// StateStore keeps small files durably.
type StateStore interface {
	// Read returns a file of at most limit bytes. The error is fs.ErrNotExist if there is
	// none, and syscall.EFBIG if it is larger.
	Read(name string, limit int64) ([]byte, error)
	// Replace gives a file new content and returns when that is durable. A reader finds the
	// old or the new content, also after a crash; after an error it may be either.
	Replace(name string, data []byte) error
}

// LogStore keeps the log durably.
type LogStore interface {
	StateStore
	// Append writes data at the end of a file of exactly at bytes, made if at is 0, and
	// returns when it is durable. After an error or a crash, any part of data may be there.
	Append(name string, at int64, data []byte) error
	// Truncate cuts a file to size bytes and returns when that is durable. It fails if
	// the file is shorter.
	Truncate(name string, size int64) error
	// Lock keeps other processes off the directory until the store is closed. The error is
	// syscall.EWOULDBLOCK if one has it.
	Lock() error
}
