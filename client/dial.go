// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Pauses between attempts to connect while the queue of the socket is full, and how long
// that goes on if ctx allows it.
const (
	firstPause   = time.Millisecond
	longestPause = 50 * time.Millisecond
	longestQueue = 10 * time.Second
)

// dial connects to a unix socket. While the queue of the socket is full, the kernel answers
// EAGAIN at once (connect(2)); then dial tries again. The pauses are random, so that many
// clients do not come back together.
func dial(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, longestQueue)
	defer cancel()
	var full error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		switch {
		case errors.Is(err, unix.EAGAIN):
			full = err
		case full != nil && (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)): // the time ended in the middle of an attempt
			return nil, full
		default:
			return c, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
			return nil, full
		}
	}
}
