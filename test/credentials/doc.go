// SPDX-License-Identifier: Apache-2.0

// Package credentials has a real systemd start units that load credentials from the agent: as
// process 1 of namespaces of its own, with a control group of its own, and with a simulated machine
// as one of its services. It needs root, systemd and a writable hierarchy of control groups v2, and
// skips without them. The files of the machine are read-only to it.
package credentials
