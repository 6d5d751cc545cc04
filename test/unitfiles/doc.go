// Package unitfiles holds tests of the systemd units, by systemd's own judgement where it
// is installed.
package unitfiles
