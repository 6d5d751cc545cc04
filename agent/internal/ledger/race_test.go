// SPDX-License-Identifier: Apache-2.0

//go:build race

package ledger_test

// matrixStride: the matrix runs in one goroutine, so that the race detector finds nothing
// in it that a part of it does not show, and makes it ten times as slow.
const matrixStride = 13
