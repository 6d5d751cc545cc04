// Package load asks one agent for evidence from many clients at once, and verifies
// every answer.
package load
