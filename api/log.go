// SPDX-License-Identifier: Apache-2.0

package api

// LogFormat is how GET /v1/log spells the records.
type LogFormat string

const (
	LogTLV     LogFormat = "cel-tlv"  // evidence.Log: the exact bytes, in base64; the default
	LogCELJSON LogFormat = "cel-json" // TCG Canonical Event Log, JSON encoding
)
