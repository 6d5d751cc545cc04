// SPDX-License-Identifier: Apache-2.0

// Package store keeps the state of a verifier service in PostgreSQL or in a file of SQLite: challenges,
// what is known of the logs of machines, policies, enrolments, and the record of every appraisal and
// change.
//
// Any number of processes may share one database. What must not happen twice, or must happen together,
// is one transaction, and its caller gets an answer after its commit:
//
//   - a challenge is taken by the transaction that deletes it;
//   - the record of an appraisal and what it says of the log of its machine;
//   - a change of a policy or an enrolment and its record.
//
// The records are a chain. An [Entry] is one line of JSON that contains the hash of the entry before it.
// Its own hash is
//
//	SHA-256("agentd/record/1" || 0x00 || line)
//
// The row "head" has the number and hash of the last entry. The transaction that appends locks it, so
// that the chain has no branches.
//
// Errors of a database that does not answer wrap [relying.ErrUnavailable].
package store
