// SPDX-License-Identifier: Apache-2.0

// Package coverage restarts whole agents as systemd does, and looks at whether the log says that
// the coverage of an application went on, and why not, and what a verifier says of it. It has only
// tests.
package coverage
