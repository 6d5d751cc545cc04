// SPDX-License-Identifier: Apache-2.0

package pcr

import "fmt"

// LogCode says what is wrong with a measurement log.
type LogCode string

const (
	LogTooLarge  LogCode = "log-too-large" // more bytes than a log may have
	LogTruncated LogCode = "log-truncated" // ends within a record
	LogMalformed LogCode = "log-malformed" // not CEL-TLV in its canonical form
	LogNumber    LogCode = "log-number"    // a record dropped, inserted, duplicated or swapped
	LogPCR       LogCode = "log-pcr"       // a record for another PCR
	LogBanks     LogCode = "log-banks"     // not exactly one digest for each active bank
	LogDigest    LogCode = "log-digest"    // the digest is not that of the content
	LogContent   LogCode = "log-content"   // the content is not an event of this log
	LogOrder     LogCode = "log-order"     // log-start is not first, or something follows full
	LogPrevious  LogCode = "log-previous"  // an agent event names another log before it
)

// LogError says which record of a log is wrong, and why.
type LogError struct {
	Code   LogCode
	Index  uint64 // number that the record should have
	Offset int    // offset of the record in bytes from the start of the input; -1 if not known
	Err    error  // finding
}

func (e *LogError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("log record %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("log record %d at byte %d: %v", e.Index, e.Offset, e.Err)
}

func (e *LogError) Unwrap() error { return e.Err }
