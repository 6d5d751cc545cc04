// SPDX-License-Identifier: Apache-2.0

// Package crossmachine puts parts of several machines into one evidence. The machines are
// agentd-sim processes, each with a vTPM and a chip of its own under one root, and are
// asked over their sockets. Every part is genuine, every machine by itself acceptable;
// what must be refused is that the parts do not belong together: cases 51, 52, 58 and
// 90 to 93. The library and the command each have to refuse it, by exactly the checks
// that the table names, so that no check can be lost without a test that fails.
package crossmachine
