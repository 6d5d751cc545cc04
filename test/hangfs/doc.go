// SPDX-License-Identifier: Apache-2.0

// Package hangfs mounts a file system that stops answering, as one does whose server or disk is
// gone. A program that asks it something then waits in the kernel, and cannot be killed while it
// does. Mounting takes root and /dev/fuse.
//
// The server of the file system is the process of the test. If that ends, however it does, the
// kernel gives up all that waits. In a mount namespace of its own ([OwnNamespace]) nothing of
// the mount remains either.
//
// It is the protocol of FUSE in its version 7.31, as linux/fuse.h of Linux has it, and no more
// of that than a program takes that reads files.
package hangfs
