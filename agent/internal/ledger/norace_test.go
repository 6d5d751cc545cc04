//go:build !race

package ledger_test

// matrixStride: every step is broken.
const matrixStride = 1
