// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// kept contains the secrets of the application, which must survive everything that happens
// to the machine.
type kept struct{ secret, derived string }

// app makes the application ask the agent.
func (s *session) app(ctx context.Context, words string) (string, error) {
	return s.machine.run(ctx, "vmguest ask /run/billing/socket "+words)
}

// sealsKeys checks that a new installation does not give keys. After an operator has chosen
// what may lose them, the application seals and derives as its own user.
func (s *session) sealsKeys(ctx context.Context) error {
	if err := s.fails(ctx, "vmguest ask /run/billing/socket derive disk", string(api.CodeNoRecovery)); err != nil {
		return err
	}
	if _, err := s.machine.run(ctx, "sed -i 's/^#lose_on_hardware_change = false$/lose_on_hardware_change = true/' /etc/agentd/config.toml && systemctl restart agentd"); err != nil {
		return err
	}
	s.keys.secret = "password-" + nonce()
	if err := s.eventually(ctx, patience, "vmguest ask /run/billing/socket seal database "+s.keys.secret); err != nil {
		return err
	}
	var err error
	if s.keys.derived, err = s.app(ctx, "derive disk"); err != nil {
		return err
	}
	if len(s.keys.derived) != 64 {
		return fmt.Errorf("derived %q, want 32 bytes in hexadecimal", s.keys.derived)
	}
	if other, err := s.app(ctx, "derive backup"); err != nil || other == s.keys.derived {
		return fmt.Errorf("another label derives %q, %v", other, err)
	}
	if err := s.opens(ctx); err != nil {
		return err
	}
	// Case 75, by what can be seen on a machine. grep ends with 1 if it finds nothing.
	if _, err := s.machine.run(ctx, "grep -raF "+s.keys.secret+" /var/lib/agentd /run/log/agentd; test $? = 1 && ! journalctl --no-pager | grep -F "+s.keys.secret+
		` && test -z "$(find /var/lib/agentd -type f ! -perm 0600)"`); err != nil {
		return fmt.Errorf("the secret lies open: %w", err)
	}
	return s.want(ctx, "agentctl key list", "snp+tpm", "billing", "database")
}

// opens checks that the application still has its secrets.
func (s *session) opens(ctx context.Context) error {
	var secret, derived string
	// The store opens in the background when the agent starts.
	err := waitFor(ctx, patience, func() bool {
		var err error
		secret, err = s.app(ctx, "unseal database")
		return err == nil
	})
	if err != nil {
		_, err = s.app(ctx, "unseal database")
		return fmt.Errorf("the sealed secret does not open: %w", err)
	}
	if derived, err = s.app(ctx, "derive disk"); err != nil {
		return err
	}
	if secret != s.keys.secret || derived != s.keys.derived {
		return fmt.Errorf("unsealed %q and derived %q, had %q and %q", secret, derived, s.keys.secret, s.keys.derived)
	}
	return nil
}

// otherCallers checks that no other caller can open the application's secret: not another
// unit of the same user, not root, not another application.
func (s *session) otherCallers(ctx context.Context) error {
	as := func(user, command string) string {
		return "systemd-run --quiet --collect --wait --pipe --unit=other.service -p User=" + user + " -p SupplementaryGroups=agentd-clients " + command
	}
	for _, command := range []string{"agentctl unseal --name database", "agentctl key derive --label disk --length 32"} {
		if err := s.fails(ctx, as("billing", command), string(api.CodeNoApp)); err != nil {
			return fmt.Errorf("another unit of the same user: %w", err)
		}
		if err := s.fails(ctx, command, string(api.CodeNoApp)); err != nil {
			return fmt.Errorf("root: %w", err)
		}
	}
	if _, err := s.machine.run(ctx, `printf 'unit = "other.service"\nuser = "alice"\nfiles = ["/usr/bin/agentctl"]\n' >/etc/agentd/apps.d/other.toml && agentctl app reload`); err != nil {
		return err
	}
	if err := s.fails(ctx, as("alice", "agentctl unseal --name database"), string(api.CodeNotFound)); err != nil {
		return fmt.Errorf("another application: %w", err)
	}
	derived, err := s.machine.run(ctx, as("alice", "agentctl key derive --label disk --length 32")+" | od -An -v -tx1 | tr -d ' \\n'")
	if err != nil || len(derived) != 64 || derived == s.keys.derived {
		return fmt.Errorf("another application derives %q, %v", derived, err)
	}
	if _, err := s.machine.run(ctx, "rm /etc/agentd/apps.d/other.toml && agentctl app reload"); err != nil {
		return err
	}
	return s.opens(ctx)
}

// sealOften makes the application store values in the background, one after the other. The
// values that it writes to /tmp/sealed are on disk.
const sealOften = `rm -f /tmp/sealed; (i=0; while :; do i=$((i+1)); vmguest ask /run/billing/socket seal counted $i >/dev/null && echo $i >>/tmp/sealed; done >/dev/null 2>&1 &)`

// sealedUntil returns the last value that the agent told the application was stored.
func (s *session) sealedUntil(ctx context.Context) (int, error) {
	deadline := time.Now().Add(patience)
	for {
		out, err := s.machine.run(ctx, "test ! -e /tmp/sealed || tail -n 1 /tmp/sealed")
		if err != nil {
			return 0, err
		}
		if n, err := strconv.Atoi(strings.TrimSpace(out)); err == nil && n >= 3 {
			return n, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("the application did not seal three values within %v: %q", patience, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// countedFrom checks that the last stored value is there, or a later one.
func (s *session) countedFrom(ctx context.Context, least int) error {
	out, err := s.app(ctx, "unseal counted")
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(out); err != nil || n < least {
		return fmt.Errorf("value %q opens, and %d was stored before the power went", out, least)
	}
	return nil
}
