// SPDX-License-Identifier: Apache-2.0

package apps

import "time"

// Caps on what a declaration may ask the agent to do. Whoever declares an app is
// root, but the files it names may be written by anyone.
const (
	MaxApps           = 256      // declared apps
	MaxDeclaration    = 64 << 10 // bytes of one declaration file
	MaxDirectoryNames = 4096     // names in one apps.d, declarations or not
	MaxListed         = 4096     // elements of files, directories or exclude
	MaxFiles          = 20000    // manifest entries of one app, as in pcr.MaxManifest
	MaxFileSize       = 4 << 30  // bytes of one file; holes count
	MaxAppSize        = 16 << 30 // bytes of all files of one app; holes count
	MaxDepth          = 64       // directories from a declared one down, itself included

	maxAppName   = 128          // bytes
	maxNames     = 4 * MaxFiles // names seen in the directories of one app, excluded ones too
	maxLinks     = 40           // symbolic links on one path, as in the kernel (path_resolution(7))
	maxAttempts  = 4            // readings of an app whose files change meanwhile
	readBuffer   = 128 << 10    // bytes read at a time by each hashing goroutine
	cacheEntries = 2 * MaxFiles // digests kept, at least; at most twice as many
)

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
	retryAfterChanging = 5 * time.Second        // after a file would not hold still

	// settleTime is longer than one tick of the kernel's coarse clock (10 ms at
	// 100 Hz). Two writes within a tick leave the same change time, so that a
	// file read right after the first could be torn without a trace in its times.
	settleTime = 20 * time.Millisecond

	// coarseSettleTime is settleTime for file systems that keep times in seconds, or in two (FAT).
	coarseSettleTime = 2 * time.Second

	// cacheAge: a digest is cached only of a file that last changed longer ago.
	cacheAge = 2 * time.Second
)
