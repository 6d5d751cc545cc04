// SPDX-License-Identifier: Apache-2.0

// Package secret keeps key bytes so that they do not leak by accident.
//
// A [Secret] has no String, no encoding and no ==; whatever verb it is printed with,
// a placeholder comes out. Its bytes live in a memory mapping of their own, outside
// the Go heap: locked against swapping (mlock), left out of core dumps
// (MADV_DONTDUMP), absent from forked children (MADV_WIPEONFORK), and overwritten by
// [Secret.Wipe].
//
// What Go does not allow: key schedules of crypto/aes, states of crypto/hkdf, values
// that are encoded for a socket and stacks that grew pass through the ordinary heap,
// which the garbage collector copies nowhere but also never overwrites. An attacker who
// reads the memory of the process finds such copies. [HideProcess] keeps other processes of
// the same user from doing so, and all of this memory out of core dumps, heap and
// stacks included; root in the guest can read it.
package secret
