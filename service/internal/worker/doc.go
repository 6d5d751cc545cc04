// SPDX-License-Identifier: Apache-2.0

// Package worker is one process of the verifier service: the listeners for clients, administrators and
// monitoring, the policies in force, and what a reload exchanges. Its state is that of package store, so
// that any worker can end at any time.
//
// A request of a client goes through these, in this order: its share, the path, the policy of that path,
// and package relying. A worker asks the database for the policy in force at each request, so that a
// change counts for all workers at once. It keeps what it made of each version.
package worker
