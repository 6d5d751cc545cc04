// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
)

type sent struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

func TestRecords(t *testing.T) {
	for _, test := range []struct {
		name string
		log  func(*slog.Logger)
		want sent
	}{
		{"message alone", func(l *slog.Logger) { l.Info("ready") }, sent{"ready", journal.PriInfo, map[string]string{}}},
		{"attributes", func(l *slog.Logger) { l.Warn("no reports", "error", errors.New("absent"), "retry-after", 3) },
			sent{"no reports: error=absent retry-after=3", journal.PriWarning, map[string]string{"AGENTD_ERROR": "absent", "AGENTD_RETRY_AFTER": "3"}}},
		{"kept attributes and groups", func(l *slog.Logger) { l.With("unit", "a b").WithGroup("tpm").Error("hangs", "code", 7) },
			sent{`hangs: unit="a b" tpm.code=7`, journal.PriErr, map[string]string{"AGENTD_UNIT": "a b", "AGENTD_TPM_CODE": "7"}}},
		{"a group", func(l *slog.Logger) { l.Debug("x", slog.Group("g", "a", 1)) },
			sent{"x: g.a=1", journal.PriDebug, map[string]string{"AGENTD_G_A": "1"}}},
		{"line breaks stay within the record", func(l *slog.Logger) { l.Info("x", "a", "1\nPRIORITY=0") },
			sent{`x: a="1\nPRIORITY=0"`, journal.PriInfo, map[string]string{"AGENTD_A": "1\nPRIORITY=0"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []sent
			h := newHandler(func(m string, p journal.Priority, f map[string]string) error {
				got = append(got, sent{m, p, f})
				return nil
			}, nil, slog.LevelDebug)
			test.log(slog.New(h))
			if len(got) != 1 || got[0].message != test.want.message || got[0].priority != test.want.priority || !maps.Equal(got[0].fields, test.want.fields) {
				t.Errorf("sent %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestLevel(t *testing.T) {
	n := 0
	l := slog.New(newHandler(func(string, journal.Priority, map[string]string) error { n++; return nil }, nil, slog.LevelWarn))
	l.Info("passed over")
	l.Warn("kept")
	if n != 1 {
		t.Errorf("%d records sent, want 1", n)
	}
}

// TestJournalThatDoesNotAnswer: the record goes to standard error, with its priority.
func TestJournalThatDoesNotAnswer(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(newHandler(func(string, journal.Priority, map[string]string) error { return errors.New("gone") }, &b, slog.LevelInfo))
	l.Warn("a\nb", "c", 1)
	if got, want := b.String(), "<4>a b: c=1\n"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

// TestTerminal: a JOURNAL_STREAM that is inherited from a process whose standard error
// was the journal does not count.
func TestTerminal(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:1")
	if _, ok := NewHandler(slog.LevelInfo).(*slog.TextHandler); !ok {
		t.Error("standard error is not the journal, and the handler writes to the journal")
	}
}
