// SPDX-License-Identifier: Apache-2.0

// Package machines has evidence of each kind of machine that agentd-sim simulates verified under
// the policy that "agentctl policy init --machine" begins for it, and changes one thing at a time.
package machines
