// SPDX-License-Identifier: Apache-2.0

package manifest

import "time"

// Limits on what the files of one app may cost.
const (
	MaxFiles    = 20000    // manifest entries of one app, as in pcr.MaxManifest
	MaxFileSize = 4 << 30  // bytes of one file; holes count
	MaxAppSize  = 16 << 30 // bytes of all files of one app; holes count
	MaxDepth    = 64       // directories from a declared one down, itself included

	maxNames     = 4 * MaxFiles // names seen in the directories of one app, excluded ones too
	maxLinks     = 40           // symbolic links on one path, as in the kernel (path_resolution(7))
	readBuffer   = 128 << 10    // bytes read at a time by each hashing goroutine
	cacheEntries = 2 * MaxFiles // digests kept, at least; at most twice as many
)

// Times.
const (
	// SettleTime is longer than one tick of the kernel's coarse clock (10 ms at 100 Hz).
	// Two writes within a tick leave the same change time, so that a file read right after
	// the first could be torn without a trace in its times.
	SettleTime = 20 * time.Millisecond

	// coarseSettleTime is SettleTime for times that are kept in seconds, or in two (FAT).
	coarseSettleTime = 2 * time.Second

	// cacheAge is the least age of a file whose digest is cached, from its last change.
	cacheAge = 2 * time.Second
)
