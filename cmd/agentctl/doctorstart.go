// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/pcr"
)

// bootLogs is what the machine's own logs say of PCRs before the agent started. A verifier
// cannot rely on them: they are for people.
type bootLogs struct {
	firmware pcr.Values     // that the firmware's log leads to
	systemd  []tcglog.Event // what systemd extended after that
	unread   []string       // why a log was not read
}

// lookAtStart tells which value the PCR had when the log began, since verifiers refuse one
// that they do not know.
func (d *doctor) lookAtStart(ctx context.Context, firmwareLog string) {
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	l, err := d.sockets.clientSocket().Log(ctx, 0)
	if err != nil {
		x := failed(err)
		d.note("start value", x.hint, "not looked at: %v", err)
		return
	}
	start, err := startOfLog(l)
	if err != nil {
		d.bad("start value", "install the same version of agentctl and agentd", "%v", err)
		return
	}
	d.judgeStart(start, readBootLogs(firmwareLog, tcglog.SystemdLog))
}

func startOfLog(l *evidence.Log) (*pcr.StartEvent, error) {
	records, err := pcr.DecodeLog(l.Records, l.Start)
	if err != nil {
		return nil, err
	}
	return pcr.StartOf(records)
}

// judgeStart judges the values of the banks that verifiers look at.
func (d *doctor) judgeStart(start *pcr.StartEvent, logs bootLogs) {
	registers, err := start.Registers()
	if err != nil {
		d.bad("start value", "install the same version of agentctl and agentd", "%v", err)
		return
	}
	for i, r := range registers {
		key := []string{"measurement.pcr", "measurement.events_pcr"}[i]
		name := []string{"start value: ", "start value of events: "}[i]
		for _, v := range r.Values {
			if v.Algorithm != pcr.SHA1 {
				d.judgeStartValue(name+v.Algorithm.String(), key, r.PCR, v, logs)
			}
		}
	}
}

// judgeStartValue judges the value that a PCR had, which a key of the configuration names.
func (d *doctor) judgeStartValue(line, key string, index uint32, v pcr.Digest, logs bootLogs) {
	if name := tcglog.Known(v.Algorithm, index, v.Value); name != "" {
		d.good(line, "PCR %d (%s) had the value %s", index, v.Algorithm, name)
		return
	}
	found := fmt.Sprintf("PCR %d (%s) had the value %x, which verifiers refuse unless their policy lists it", index, v.Algorithm, v.Value)
	if by := logs.explain(index, v); by != "" {
		d.note(line, fmt.Sprintf("list it in policies, if it is the same at every boot: [[start_value]] with bank = %q and this value", v.Algorithm), "%s; %s", found, by)
		return
	}
	why := strings.Join(append([]string{"no log of the machine leads to it"}, logs.unread...), "; ")
	d.bad(line, fmt.Sprintf("find what extended the PCR before the agent, or choose another PCR (%s)", key), "%s; %s", found, why)
}

// explain tells which logs lead to a value, empty if none does.
func (b *bootLogs) explain(index uint32, v pcr.Digest) string {
	if by := tcglog.Leads(b.firmware, v.Algorithm, index, v.Value); by != "" {
		return by
	}
	if to := tcglog.Continue(b.firmware, b.systemd, v.Algorithm, index); to != nil && string(to) == string(v.Value) {
		return "the logs of firmware and systemd lead to it"
	}
	return ""
}

// readBootLogs reads both logs, as far as they can be read.
func readBootLogs(firmware, systemd string) (b bootLogs) {
	skipped := func(path string, err error) bool {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.unread = append(b.unread, fmt.Sprintf("%s was not read: %v", path, err))
		}
		return err != nil
	}
	if firmware != "" {
		text, err := durable.ReadFile(firmware, tcglog.MaxLog)
		if !skipped(firmware, err) {
			l, err := tcglog.Parse(text)
			if !skipped(firmware, err) {
				b.firmware = l.Replay()
			}
		}
	}
	text, err := readShared(systemd)
	if !skipped(systemd, err) {
		events, err := tcglog.ParseSystemd(text)
		if !skipped(systemd, err) {
			b.systemd = events
		}
	}
	return b
}

// readShared reads systemd's log under a shared lock: systemd has an exclusive one while it
// extends a PCR and writes the record (systemd-pcrextend(8)). It does not wait for it.
func readShared(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return durable.ReadAll(f, tcglog.MaxSystemdLog)
}
