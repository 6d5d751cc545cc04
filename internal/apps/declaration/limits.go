// SPDX-License-Identifier: Apache-2.0

package declaration

// Limits on what a declaration may ask the agent to do. Only root declares apps, but any
// user may be able to write the files that a declaration names.
const (
	MaxApps           = 256      // declared apps
	MaxDeclaration    = 64 << 10 // bytes of one declaration file
	MaxDirectoryNames = 4096     // names in one apps.d, declarations or not
	MaxListed         = 4096     // elements of files, directories or exclude

	maxAppName = 128 // bytes
)
