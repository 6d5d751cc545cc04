// SPDX-License-Identifier: Apache-2.0

// Package version contains the version of this source tree. It is a constant and does not come
// from version control, so an unpacked archive builds the same bytes.
package version

// Version is the version of agentd and agentctl (Semantic Versioning 2.0.0).
const Version = "0.1.0"
