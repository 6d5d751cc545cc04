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
	"io"
	"log/slog"
	"os"
	"strings"

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

// handler keeps attributes as fields, and as text, which a handler of the standard library
// writes into line.
type handler struct {
	send     send
	fallback io.Writer // gets a record that the journal did not accept
	level    slog.Leveler
	fields   map[string]string
	prefix   string // prefix of field names: the groups
	wrap     func(slog.Handler) slog.Handler
}

func newHandler(s send, fallback io.Writer, level slog.Leveler) *handler {
	return &handler{send: s, fallback: fallback, level: level, prefix: "AGENTD_", wrap: func(h slog.Handler) slog.Handler { return h }}
}

// Enabled reports whether records of this level are kept.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle sends one record.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	fields := make(map[string]string, len(h.fields)+r.NumAttrs())
	for k, v := range h.fields {
		fields[k] = v
	}
	r.Attrs(func(a slog.Attr) bool {
		set(fields, h.prefix, a)
		return true
	})
	var line bytes.Buffer
	if err := h.wrap(text(&line)).Handle(ctx, r); err != nil {
		return err
	}
	message := r.Message
	if attributes := strings.TrimSpace(line.String()); attributes != "" {
		message += ": " + attributes
	}
	if err := h.send(message, priority(r.Level), fields); err != nil {
		// The prefix gives the line a priority (sd-daemon(3)).
		_, err = io.WriteString(h.fallback, "<"+string('0'+rune(priority(r.Level)))+">"+strings.ReplaceAll(message, "\n", " ")+"\n")
		return err
	}
	return nil
}

// text returns the attributes alone: time, level and message have fields of their own.
func text(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: slog.Level(-128),
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})
}

// WithAttrs returns a handler that adds attributes to every record.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.fields = make(map[string]string, len(h.fields)+len(attrs))
	for k, v := range h.fields {
		c.fields[k] = v
	}
	for _, a := range attrs {
		set(c.fields, h.prefix, a)
	}
	c.wrap = func(inner slog.Handler) slog.Handler { return h.wrap(inner).WithAttrs(attrs) }
	return &c
}

// WithGroup returns a handler that puts further attributes under a name.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix = h.prefix + fieldName(name) + "_"
	c.wrap = func(inner slog.Handler) slog.Handler { return h.wrap(inner).WithGroup(name) }
	return &c
}

// set adds an attribute, and those of a group under its name.
func set(fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += fieldName(a.Key) + "_"
		}
		for _, inner := range v.Group() {
			set(fields, prefix, inner)
		}
		return
	}
	if a.Key == "" {
		return
	}
	name := prefix + fieldName(a.Key)
	if len(name) > maxName {
		name = name[:maxName]
	}
	fields[name] = v.String()
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
