package apps

import "time"

// Caps on what a declaration may ask the agent to do. Whoever declares an app is
// root, but the files it names may be written by anyone.
const (
	MaxApps            = 256      // declarations in force
	MaxDeclaration     = 64 << 10 // bytes of one declaration file
	MaxDirectoryNames  = 4096     // names in one apps.d, declarations or not
	MaxListed          = 4096     // elements of files, directories or exclude
	MaxFiles           = 20000    // manifest entries of one app
	MaxFileSize        = 4 << 30  // bytes of one file; a sparse file counts in full
	MaxAppSize         = 16 << 30 // bytes of all files of one app
	MaxDepth           = 64       // directories below a declared directory
	maxNames           = 4 * MaxFiles
	maxLinks           = 40 // symbolic links on one path, as in the kernel (path_resolution(7))
	maxAppName         = 128
	maxAttempts        = 4       // readings of an app whose files change meanwhile
	readBuffer         = 1 << 17 // bytes read at a time by each hashing goroutine
	cacheEntries       = 2 * MaxFiles
	overrideDirectory  = "/etc/agentd/apps.d"
	packageDirectory   = "/usr/lib/agentd/apps.d"
	declarationSuffix  = ".toml"
	descriptorsOfOwn   = "/proc/self/fd/"
	nullDevice         = "/dev/null"
	unnamed            = "" // as the name in a footprint: every name in that directory
	overflowIdentifier = 65534
)

// Times. Those in [Config] are defaults.
const (
	defaultDebounce    = 200 * time.Millisecond // after the last change of a file
	maxDebounce        = 2 * time.Second        // after the first change
	defaultRescan      = 10 * time.Minute       // while inotify works
	fallbackRescan     = 30 * time.Second       // while it does not
	defaultRateEvery   = 10 * time.Minute       // one further event of an app after its burst
	defaultRateBurst   = 30                     // events of an app at once
	recordTimeout      = time.Minute            // for the log and the TPM to take one event
	retryAfterFailure  = time.Minute            // after the recorder failed
	retryAfterChanging = 5 * time.Second        // after a file would not hold still

	// settleTime is longer than one tick of the kernel's coarse clock (10 ms at
	// 100 Hz). Two writes within a tick leave the same change time, so that a
	// younger file could be torn without a trace in its times.
	settleTime = 20 * time.Millisecond

	// cacheAge: a digest is cached only of a file that last changed longer ago.
	cacheAge = 2 * time.Second
)
