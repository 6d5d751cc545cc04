// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"fmt"
	"sync"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// documents encodes the documents of one batch. What they have in common is encoded once
// for each choice of logs.
type documents struct {
	mu     sync.Mutex // guards shared
	shared map[choice]func() (*evidence.Shared, error)
}

// choice is which logs a caller asked for.
type choice struct {
	log      bool // the measurement log, from start on
	start    uint64
	firmware bool // the firmware's log
	ima      bool // the kernel's list of IMA, from imaStart on
	imaStart uint64
}

// elsewhere reads what is not the agent's own, and is bound by the quoted PCRs alone: after the quote.
type elsewhere struct {
	firmwareLog func() []byte
	imaList     func(start uint64) (*evidence.IMA, error)
}

func choiceOf(r *api.EvidenceRequest) choice {
	c := choice{log: r.Log != api.LogNone, firmware: r.FirmwareLog, ima: r.IMA, imaStart: r.IMAStart}
	if c.log {
		c.start = r.LogStart
	}
	return c
}

// of returns what documents with the logs of a choice have in common. Of several callers at
// once, one encodes it, with encode, and the others wait.
func (d *documents) of(c choice, encode func() (*evidence.Shared, error)) (*evidence.Shared, error) {
	d.mu.Lock()
	once := d.shared[c]
	if once == nil {
		once = sync.OnceValues(encode)
		if d.shared == nil {
			d.shared = make(map[choice]func() (*evidence.Shared, error))
		}
		d.shared[c] = once
	}
	d.mu.Unlock()
	return once()
}

// document returns the evidence of the waiter at index, encoded, in parts that documents share.
func (b *batch) document(w *waiter, index uint64, from elsewhere) ([][]byte, error) {
	inclusion, err := b.tree.Prove(index)
	if err != nil {
		return nil, err
	}
	c := choiceOf(&w.request)
	shared, err := b.documents.of(c, func() (*evidence.Shared, error) { return b.share(c, from) })
	if err != nil {
		return nil, err
	}
	document, err := shared.Parts(w.statement, inclusion)
	if err != nil {
		return nil, fmt.Errorf("assemble evidence: %w", err)
	}
	return document, nil
}

// share encodes what documents with the logs of a choice have in common.
func (b *batch) share(c choice, from elsewhere) (*evidence.Shared, error) {
	e := evidence.Evidence{
		Type:           evidence.Type,
		Batch:          b.snapshot,
		AgentSignature: b.signature,
		Report:         b.report,
		AgentKey:       b.agentKey,
		AK:             b.ak,
		Certificates:   b.certificates,
	}
	if b.anchor != nil {
		e.Anchor = &b.anchor.snapshot
	}
	if c.firmware {
		e.FirmwareLog = from.firmwareLog()
	}
	if c.ima {
		list, err := from.imaList(c.imaStart)
		if err != nil {
			return nil, err
		}
		e.IMA = list
	}
	if c.log {
		l := b.logs[c.start]
		if l.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLogStart, l.err)
		}
		e.Log = &l.log
	}
	shared, err := e.Share()
	if err != nil {
		return nil, fmt.Errorf("assemble evidence: %w", err)
	}
	return shared, nil
}
