// SPDX-License-Identifier: Apache-2.0

// Package unitfiles holds tests of the systemd units, by systemd's own judgement where it
// is installed.
package unitfiles
