// SPDX-License-Identifier: Apache-2.0

// Package shells contains tests of completion: what bash, zsh and fish offer a person who
// presses TAB.
package shells
