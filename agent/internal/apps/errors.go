// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"fmt"
	"time"
)

// ErrUnknownApp is returned for a name without a declaration.
var ErrUnknownApp = errors.New("no such app is declared")

// A RateError says that an app changes too often for the log to follow. The agent
// measures it again by itself when Retry has passed.
type RateError struct {
	App   string
	Retry time.Duration
}

func (e *RateError) Error() string {
	return fmt.Sprintf("app %s changed too often, its next measurement is recorded in %s", e.App, e.Retry.Round(time.Second))
}

// A RecordError says that a measurement could not be recorded. Nothing is claimed
// of an app whose measurement is not in the log.
type RecordError struct {
	App string
	Err error // from the Recorder
}

func (e *RecordError) Error() string { return fmt.Sprintf("record app %s: %v", e.App, e.Err) }
func (e *RecordError) Unwrap() error { return e.Err }
