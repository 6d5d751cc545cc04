// SPDX-License-Identifier: Apache-2.0

// Package keys tests what applications and strangers get over the sockets of a whole
// agent, and that no secret is found outside its place.
package keys
