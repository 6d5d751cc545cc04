// SPDX-License-Identifier: Apache-2.0

//go:build !race

package ledger_test

// matrixStride: every step is broken.
const matrixStride = 1
