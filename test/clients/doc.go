// SPDX-License-Identifier: Apache-2.0

// Package clients tests the client libraries in Python and in TypeScript from outside: against one
// simulated machine, and against servers that answer too long, too slowly, or something else. It
// runs the examples of their documents, and checks their types as strict users would.
package clients
