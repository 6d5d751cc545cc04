// SPDX-License-Identifier: Apache-2.0

// Package tunnel runs both ends of agentctl tunnel as processes between simulated machines, and does
// to them what attackers, operators and accidents do.
package tunnel
