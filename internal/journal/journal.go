// SPDX-License-Identifier: Apache-2.0

// Package journal sends structured log records to systemd's journal if standard error leads
// there, and writes lines of text otherwise.
//
// In the journal a record has the message, its attributes in a line for people, a
// priority of syslog(3), and one field AGENTD_NAME for each attribute:
//
//	journalctl -u agentd -p warning
//	journalctl -u agentd AGENTD_UNIT=billing.service
package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// NewHandler returns the handler for standard error.
func NewHandler(level slog.Leveler) slog.Handler {
	if Leads() {
		return newHandler(journal.Send, os.Stderr, level)
	}
	return slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})
}

// Leads reports whether standard error leads to the journal. JOURNAL_STREAM of systemd names
// the stream; a process that got another standard error has the variable as well.
func Leads() bool {
	ours, err := journal.StderrIsJournalStream()
	return err == nil && ours
}

// send sends one record to the journal.
type send func(message string, priority journal.Priority, fields map[string]string) error

// handler has attributes written as text by a handler of the standard library, which also
// notes each of them as a field.
type handler struct {
	text   slog.Handler
	fields map[string]string // of the attributes that text has
	out    *output
}

// output is shared by a handler and those derived from it.
type output struct {
	send     send
	fallback io.Writer // gets a record that the journal did not accept

	mu     sync.Mutex // guards what text writes
	line   bytes.Buffer
	fields map[string]string
}

func newHandler(s send, fallback io.Writer, level slog.Leveler) *handler {
	o := &output{send: s, fallback: fallback}
	return &handler{text: slog.NewTextHandler(&o.line, &slog.HandlerOptions{Level: level, ReplaceAttr: o.note}), out: o}
}

// note notes an attribute as a field. It leaves out the time, level and message of a record.
func (o *output) note(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	if a.Key != "" {
		name := "AGENTD_" + fieldName(strings.Join(append(slices.Clone(groups), a.Key), "_"))
		o.fields[name[:min(len(name), maxName)]] = a.Value.String()
	}
	return a
}

// Enabled reports whether records of this level are kept.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

// Handle sends one record.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	o := h.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.line.Reset()
	o.fields = map[string]string{}
	maps.Copy(o.fields, h.fields)
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	message := r.Message
	if attributes := strings.TrimSpace(o.line.String()); attributes != "" {
		message += ": " + attributes
	}
	if err := o.send(message, priority(r.Level), o.fields); err != nil {
		// The prefix gives the line a priority (sd-daemon(3)).
		_, err = fmt.Fprintf(o.fallback, "<%d>%s\n", priority(r.Level), strings.ReplaceAll(message, "\n", " "))
		return err
	}
	return nil
}

// WithAttrs returns a handler that adds attributes to every record.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	fields := map[string]string{}
	maps.Copy(fields, h.fields)
	h.out.fields = fields
	return &handler{h.text.WithAttrs(attrs), fields, h.out}
}

// WithGroup returns a handler that puts further attributes under a name.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.text.WithGroup(name), h.fields, h.out}
}

// maxName is the longest field name that the journal keeps.
const maxName = 64

// fieldName returns a key as the journal accepts it: upper case, digits and underscores.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// priority returns the priority of syslog(3) for a level.
func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
