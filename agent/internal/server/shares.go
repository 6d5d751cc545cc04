// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"strconv"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// shares is what the callers of one socket share. Each socket has its own, so that clients
// do not keep an administrator out, whatever their uid: uid 0 on the client socket, such as
// a container's root, is a client.
type shares struct {
	conns      *connections
	gate       *turn.Queue // of bytes of answers being made or written
	bodies     *turn.Queue // of bytes of bodies being read or worked on
	processors *turn.Queue // of answers from memory being made
	// Of connections whose peers are being identified: one at a time, as it takes a processor.
	identifying *turn.Queue
	rates       *rates        // of requests
	opens       *rates        // of connections
	slowed      chan struct{} // requests that wait for their refusal, since their users ask too much
	shed        chan struct{} // connections of callers who open them too often, likewise
	limits      Limits
	counts      *counts
	least       int64 // bytes that a request counts at least, so that their number is bounded too
}

// Two users who both take their whole share take everything. While the host delays reports,
// their requests end only after a minute. So a part is spare, which only a uid with little
// in use gets. A user who asks for status, or wants evidence that needs no report, is then
// answered in the meantime.
const (
	spare  = 8   // a spare eighth of the capacity
	little = 128 // for a uid with less than this part of it in use
)

func newShares(l Limits) *shares {
	least := max(1, l.Bytes/int64(l.Requests))
	processors := int64(l.Processors+1) / 2
	return &shares{
		conns: newConnections(l), limits: l, counts: newCounts(),
		rates: newRates(l.RateEach, l.BurstEach),
		opens: newRates(l.OpenEach, l.OpenBurst),
		least: least, slowed: make(chan struct{}, l.Connections), shed: make(chan struct{}, maxShed),
		gate: turn.New(turn.Options{
			Capacity: l.Bytes, Each: min(l.BytesEach, least*int64(l.RequestsEach)),
			Spare: l.Bytes / spare, Little: l.Bytes / little, Waiting: l.WaitingEach,
		}),
		bodies: turn.New(turn.Options{Capacity: l.BodyBytes, Each: l.BodyBytes / 2, Waiting: l.WaitingEach}),
		// What has its turn runs at once, and does not wait behind all other requests: a flood of
		// one uid leaves time to others. The spare part is for uids that have no turn, so that a
		// large answer does not delay them.
		processors:  turn.New(turn.Options{Capacity: processors, Spare: processors, Little: 1}),
		identifying: turn.New(turn.Options{}),
	}
}

// briefTurn is how long a brief request keeps its turn of the processors at most. It gives the turn
// back when it waits for one of another resource, but it may wait for something else, such as a
// disk. Few turns are under way at a time, so it must not keep others from theirs.
const briefTurn = 5 * time.Millisecond

// A caller who asks too much is refused after a while, and not at once: most programs ask again
// when they have their answer. The more callers wait for their refusal, the longer it takes.
// Otherwise refusing a flood takes all processors. Each connection may wait. A connection that
// is shed takes a descriptor that nothing else counts, so few of these wait.
const (
	refusalDelay    = 100 * time.Millisecond
	longestDelay    = time.Second
	delayPerRefusal = time.Millisecond // for each that waits
	maxShed         = 64
)

// take takes one of the places of a channel, and reports whether one was left.
func take(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		return false
	}
}

// slow waits before a refusal, in a place that was taken, and leaves it.
func slow(ctx context.Context, places chan struct{}) {
	defer func() { <-places }()
	delay := min(max(refusalDelay, delayPerRefusal*time.Duration(len(places))), longestDelay)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// who returns whose work a request on c is: its class, and the uid of the caller.
func (r *route) who(c *conn) turn.Who {
	w := turn.Who{Class: r.class(), Party: strconv.FormatUint(uint64(c.peer.UID), 10)}
	if c.socket == Admin {
		w = turn.Who{Class: max(r.class(), turn.Admin), Party: string(Admin)}
	}
	return w
}

// class returns how urgent requests for r are.
func (r *route) class() turn.Class {
	switch {
	case r.Path == api.CallMeasure.Path: // a unit waits for it
		return turn.Start
	case r.Path == api.CallEvidence.Path:
		return turn.Evidence
	case r.On == api.OnClient:
		return turn.Keys
	}
	return turn.Inquiry
}
