// SPDX-License-Identifier: Apache-2.0

// Package bench measures what users notice: the time until the agent is ready, its memory,
// and the time of its answers. scripts/bench.sh prints the figures with the machine that
// they were measured on. A slow machine does not make a benchmark fail.
package bench
