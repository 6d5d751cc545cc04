// SPDX-License-Identifier: Apache-2.0

package tcglog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/pcr"
)

// signature begins a TCG_EfiSpecIdEvent (section 10.4.5.1).
var signature = []byte("Spec ID Event03\x00")

// first reads the first event, which names the algorithms of the others:
//
//	signature          16 bytes  "Spec ID Event03" and a zero
//	platformClass       4 bytes
//	specVersionMinor, specVersionMajor, specErrata, uintnSize   1 byte each
//	numberOfAlgorithms  4 bytes
//	digestSizes                  for each: algorithmId 2 bytes, digestSize 2 bytes
//	vendorInfoSize      1 byte
//	vendorInfo
func (r *reader) first() ([]bank, error) {
	index, typ := r.u32("pcrIndex"), EventType(r.u32("eventType"))
	digest := r.take(20, "digest")
	data := r.take(uint64(r.u32("eventSize")), "event")
	if r.err != nil {
		return nil, r.err
	}
	if index != 0 || typ != NoAction || !bytes.Equal(digest, make([]byte, 20)) || !bytes.HasPrefix(data, signature) {
		return nil, errors.New("the first event does not name the hash algorithms: want a log of TPM 2.0, not of TPM 1.2")
	}
	d := &reader{b: data[len(signature):]}
	d.take(8, "platformClass to uintnSize")
	count := d.u32("numberOfAlgorithms")
	if d.err == nil && (count == 0 || count > maxAlgorithms) {
		return nil, fmt.Errorf("it names %d hash algorithms, want 1 to %d", count, maxAlgorithms)
	}
	var banks []bank
	for range count {
		k := bank{algorithm: pcr.Algorithm(d.u16("algorithmId")), size: uint64(d.u16("digestSize"))}
		if d.err != nil {
			break
		}
		if slices.ContainsFunc(banks, func(o bank) bool { return o.algorithm == k.algorithm }) {
			return nil, fmt.Errorf("it names algorithm 0x%04x twice", uint16(k.algorithm))
		}
		if k.size == 0 || k.size > maxDigest || k.known() && int(k.size) != k.algorithm.Size() {
			return nil, fmt.Errorf("it gives digests of algorithm 0x%04x %d bytes", uint16(k.algorithm), k.size)
		}
		banks = append(banks, k)
	}
	d.take(uint64(d.u8("vendorInfoSize")), "vendorInfo")
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow it", len(d.b))
	}
	return banks, d.err
}

// event reads one TCG_PCR_EVENT2 (section 10.2.2). It must have a digest for each
// algorithm that the first event named, once each. The digests are put into that order.
func (r *reader) event(banks []bank) (Event, error) {
	e := Event{PCR: r.u32("pcrIndex"), Type: EventType(r.u32("eventType"))}
	count := r.u32("digests.count")
	if r.err == nil && e.PCR >= pcr.Count {
		return e, fmt.Errorf("PCR %d, want 0 to %d", e.PCR, pcr.Count-1)
	}
	if r.err == nil && int64(count) != int64(len(banks)) {
		return e, fmt.Errorf("digests of %d algorithms, the log has %d", count, len(banks))
	}
	values := make([][]byte, len(banks))
	for range len(banks) {
		a := pcr.Algorithm(r.u16("digests.algorithm"))
		if r.err != nil {
			return e, r.err
		}
		i := slices.IndexFunc(banks, func(k bank) bool { return k.algorithm == a })
		if i < 0 || values[i] != nil {
			return e, fmt.Errorf("a digest of algorithm 0x%04x, which the log does not have, or a second one", uint16(a))
		}
		values[i] = r.take(banks[i].size, "digests.digest")
	}
	e.Data = r.take(uint64(r.u32("eventSize")), "event")
	if r.err != nil {
		return e, r.err
	}
	for i, k := range banks {
		if k.known() {
			e.Digests = append(e.Digests, pcr.Digest{Algorithm: k.algorithm, Value: values[i]})
		}
	}
	return e, nil
}

// startupLocality begins the data of the event that names the locality (section 10.4.5.3).
// One byte follows it.
var startupLocality = []byte("StartupLocality\x00")

// startup notes the locality that TPM2_Startup was sent from. It is the first value of PCR 0,
// so the log must name it at most once, before any event of PCR 0.
func (l *Log) startup(e Event, extended bool) error {
	if !bytes.HasPrefix(e.Data, startupLocality) {
		return nil
	}
	switch {
	case len(e.Data) != len(startupLocality)+1:
		return fmt.Errorf("startup locality in %d bytes, want %d", len(e.Data), len(startupLocality)+1)
	case extended:
		return errors.New("startup locality after an event that extended PCR 0, want it before")
	case l.told:
		return errors.New("a second startup locality, want one")
	}
	locality := e.Data[len(startupLocality)]
	if locality > 4 {
		return fmt.Errorf("startup locality %d, want 0 to 4", locality)
	}
	l.locality, l.told = locality, true
	return nil
}

// Replay returns the values that the log leads to, for every PCR that it extends. PCRs 17 to
// 22 begin with ones (PC Client Platform TPM Profile, section 4.6). The first value of PCR 0
// ends with the startup locality. The other PCRs begin with zeros.
func (l *Log) Replay() pcr.Values {
	out := pcr.Values{}
	for _, e := range l.Events {
		if e.Type == NoAction {
			continue
		}
		for _, d := range e.Digests {
			value, ok := out[d.Algorithm][e.PCR]
			if !ok {
				value = l.start(d.Algorithm, e.PCR)
			}
			out.Set(d.Algorithm, e.PCR, d.Algorithm.Sum(value, d.Value))
		}
	}
	return out
}

func (l *Log) start(a pcr.Algorithm, index uint32) []byte {
	b := make([]byte, a.Size())
	switch {
	case index == 0:
		b[len(b)-1] = l.locality
	case index >= 17 && index <= 22:
		for i := range b {
			b[i] = 0xff
		}
	}
	return b
}
