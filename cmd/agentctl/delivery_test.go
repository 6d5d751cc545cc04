// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/carrier"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestSendRefusesBeforeItReads: a sender's key that another user can read or change is not used, and no
// message is made that a terminal would not show. The delivery is not used up by that.
func TestSendRefusesBeforeItReads(t *testing.T) {
	key := pkcs8(t, evidencetest.Key('s'))
	t.Chdir(folder(t, map[string][]byte{"open.key": key, "group.key": key, "own.key": key}))
	for name, mode := range map[string]os.FileMode{"open.key": 0o604, "group.key": 0o620} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, stderr := agentctl(t, "secret", "challenge", "--delivery", "d"); code != exitOK {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	before, err := os.ReadFile("d")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key    string
		screen bool
		want   string
	}{
		{"open.key", false, "mode 0604: other users"},
		{"group.key", false, "mode 0620: other users"},
		{"own.key", false, "open policy"}, // the next thing that it reads
		{"own.key", true, "binary data to a terminal"},
	} {
		var out, errs bytes.Buffer
		args := []string{"secret", "send", "--delivery", "d", "--policy", "policy", "--ticket", "ticket", "--app", "billing", "--sender-key", c.key, "token"}
		code := run(t.Context(), args, &terminal{in: strings.NewReader("hunter2"), out: &out, err: &errs, screen: c.screen})
		if code != exitMisuse || !strings.Contains(errs.String(), c.want) || out.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s", c.key, code, &errs)
		}
	}
	if after, err := os.ReadFile("d"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%v, the delivery is\n%s", err, after)
	}
}

// TestDoubtIsSaid: if an earlier attempt may have stored the secret, the exit code and what to do say so,
// whatever the last one was refused with.
func TestDoubtIsSaid(t *testing.T) {
	refused := &carrier.RefusedError{Code: api.CodeTicketUnknown}
	for _, c := range []struct {
		err   error
		code  int
		found api.Code
		hint  string
	}{
		{refused, exitMisuse, api.CodeTicketUnknown, api.CodeTicketUnknown.Info().Hint},
		{fmt.Errorf("%w: %w", carrier.ErrNoReceipt, refused), exitUnavailable, api.CodeTicketUnknown, "secret list"},
		{fmt.Errorf("%w: %w", carrier.ErrNoReceipt, os.ErrDeadlineExceeded), exitUnavailable, "", "secret list"},
		{&carrier.RefusedError{Code: api.CodeTicketForged}, exitMisuse, api.CodeTicketForged, ""}, // no verdict: the machine says it
		{&carrier.RefusedError{Code: api.CodeNotPermitted}, exitNotPermitted, api.CodeNotPermitted, ""},
	} {
		x, ok := errors.AsType[*exitError](ofCarrier(c.err))
		if !ok || x.code != c.code || x.found != c.found || !strings.Contains(x.hint, c.hint) || !errors.Is(x, c.err) {
			t.Errorf("%v: %+v", c.err, x)
		}
	}
}
