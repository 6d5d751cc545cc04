// SPDX-License-Identifier: Apache-2.0

// Package bench measures what people notice of the agent: how long it takes until it
// is ready, how much memory it holds, how fast it answers. Figures are printed with
// what they were measured on; nothing here fails because a machine is slow.
package bench
