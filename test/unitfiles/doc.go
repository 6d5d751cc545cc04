// SPDX-License-Identifier: Apache-2.0

// Package unitfiles contains tests of the systemd units, by systemd's own judgement if it
// is installed.
package unitfiles
