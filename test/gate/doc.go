// SPDX-License-Identifier: Apache-2.0

// Package gate runs agentd-gate beside a simulated machine, with real programs and the permission
// events of the kernel: what starts, and what log and verdict say of it, while gate and agent are
// stopped, killed and started again. It needs root, and a kernel that permits it.
package gate
