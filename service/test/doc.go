// SPDX-License-Identifier: Apache-2.0

// Package test runs agentd-verifier as its users do: as processes, on a PostgreSQL or a file of SQLite,
// with clients and administrators over TLS. Processes are killed, the database goes away, and the
// records are read from outside afterwards.
package test
