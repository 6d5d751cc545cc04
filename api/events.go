// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// EventRequest is the body of POST /v1/events: what the calling app says of itself. It has content
// or digest, and not both.
type EventRequest struct {
	Domain  string           `json:"domain"`           // what the words are about, 1 to 128 bytes; "agentd/" begins those of the agent
	Content evidence.Bytes   `json:"content,omitzero"` // words, 1 to 1024 bytes; each program that gets evidence reads them
	Digest  *evidence.Digest `json:"digest,omitzero"`  // in place of words
}

// RecordedEvent is the answer of POST /v1/events: the event is in the log and in the PCR.
type RecordedEvent struct {
	App    string          `json:"app"`    // name of the declaration, as the log names it
	Record uint64          `json:"record"` // number of the record in the log
	Time   uint64          `json:"time"`   // of the record: CLOCK_BOOTTIME in milliseconds
	Value  evidence.Digest `json:"value"`  // that rules of a policy compare: the digest, or SHA-256 of the content
}

// Event is one event of the calling app.
type Event struct {
	Record    uint64           `json:"record"`             // number of the record in the log
	Time      uint64           `json:"time"`               // of the record: CLOCK_BOOTTIME in milliseconds
	Unit      string           `json:"unit,omitzero"`      // systemd system unit of the process that asked for it; absent if there is a container
	Container *EventContainer  `json:"container,omitzero"` // container of that process; absent if there is a unit
	Domain    string           `json:"domain"`             // what the words are about
	Content   evidence.Bytes   `json:"content,omitzero"`   // words; absent if there is a digest
	Digest    *evidence.Digest `json:"digest,omitzero"`    // in place of words
}

// EventContainer names the container that an event came from.
type EventContainer struct {
	Engine string `json:"engine"` // engine of the container
	ID     string `json:"id"`     // that the engine gave it
}

// MaxListedEvents is how many events one answer of GET /v1/events has at most.
const MaxListedEvents = 100

// Events is the answer of GET /v1/events: events of the calling app since boot.
type Events struct {
	App    string     `json:"app"`           // name of the declaration
	Events []Event    `json:"events"`        // in the order of their records
	Next   *uint64    `json:"next,omitzero"` // number of the record from which to ask for more; absent if there are no more
	Quota  EventQuota `json:"quota"`
}

// EventQuota is how much of the log the events of an app have, since boot and at most.
type EventQuota struct {
	Events      uint64 `json:"events"`      // recorded
	EventsLimit uint64 `json:"eventsLimit"` // recorded at most
	Bytes       uint64 `json:"bytes"`       // of their records
	BytesLimit  uint64 `json:"bytesLimit"`  // of their records at most; less if many apps record much
	Refused     uint64 `json:"refused"`     // refused since the agent started, because a quota was used up or the app asked too often
}

// EventStatus says how much of the log events of apps have.
type EventStatus struct {
	Recorded  uint64 `json:"recorded"`  // events since boot
	Bytes     uint64 `json:"bytes"`     // of their records
	Limit     uint64 `json:"limit"`     // bytes that events of all apps together may have; the rest of the log is the agent's
	Refused   uint64 `json:"refused"`   // refused since the agent started, because a quota was used up or an app asked too often
	Exhausted int    `json:"exhausted"` // apps whose last event was refused because a quota was used up, until the next boot
}
