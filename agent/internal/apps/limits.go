// SPDX-License-Identifier: Apache-2.0

package apps

import "time"

// maxAttempts is how often an app is read if its files change meanwhile.
const maxAttempts = 4

// Times. Those that [Config] names are its defaults.
const (
	defaultDebounce    = 200 * time.Millisecond // quiet after the last change of a file
	maxDebounce        = 2 * time.Second        // after the first change, quiet or not
	defaultRescan      = 10 * time.Minute       // while inotify works
	fallbackRescan     = 30 * time.Second       // while it does not
	defaultRateEvery   = 10 * time.Minute       // for one more record of an app after its burst
	defaultRateBurst   = 30                     // records of an app at once
	recordTimeout      = time.Minute            // for the log and the TPM to take one event
	retryAfterFailure  = time.Minute            // after they did not
	retryAfterChanging = 5 * time.Second        // after a file kept changing
)
