// SPDX-License-Identifier: Apache-2.0

// Package typescript has package generate make TypeScript types of api/openapi.json, as generators of clients do, and
// compiles a strict client with them that calls each route. Node runs that client against a
// simulated machine.
package typescript
