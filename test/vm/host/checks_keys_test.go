// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// app makes the application ask the agent.
func (s *session) app(words string) string {
	s.t.Helper()
	return s.run("vmguest ask /run/billing/socket " + words)
}

// sealsKeys checks that a new installation does not give keys. After an operator has chosen
// what may lose them, the application seals and derives as its own user.
func (s *session) sealsKeys() {
	s.fails("vmguest ask /run/billing/socket derive disk", string(api.CodeNoRecovery))
	s.run("sed -i 's/^#lose_on_hardware_change = false$/lose_on_hardware_change = true/' /etc/agentd/config.toml && systemctl restart agentd")
	s.secret = "password-" + nonce()
	s.eventually("vmguest ask /run/billing/socket seal database " + s.secret)
	s.derived = s.app("derive disk")
	if len(s.derived) != 64 {
		s.t.Fatalf("derived %q, want 32 bytes in hexadecimal", s.derived)
	}
	if other := s.app("derive backup"); other == s.derived {
		s.t.Fatalf("another label derives %q too", other)
	}
	s.opens()
	// Case 75, by what can be seen on a machine. grep ends with 1 if it finds nothing.
	s.run("grep -raF " + s.secret + " /var/lib/agentd /run/log/agentd; test $? = 1 && ! journalctl --no-pager | grep -F " + s.secret +
		` && test -z "$(find /var/lib/agentd -type f ! -perm 0600)"`)
	s.want("agentctl key list", "snp+tpm", "billing", "database")
}

// opens checks that the application still has its secrets.
func (s *session) opens() {
	// The store opens in the background when the agent starts.
	secret := s.eventually("vmguest ask /run/billing/socket unseal database")
	derived := s.app("derive disk")
	if secret != s.secret || derived != s.derived {
		s.t.Fatalf("unsealed %q and derived %q, had %q and %q", secret, derived, s.secret, s.derived)
	}
}

// otherCallers checks that no other caller can open the application's secret: not another
// unit of the same user, not root, not another application.
func (s *session) otherCallers() {
	as := func(user, command string) string {
		return "systemd-run --quiet --collect --wait --pipe --unit=other.service -p User=" + user + " -p SupplementaryGroups=agentd-clients " + command
	}
	for _, command := range []string{"agentctl unseal --name database", "agentctl key derive --label disk --length 32"} {
		s.fails(as("billing", command), string(api.CodeNoApp)) // another unit of the same user
		s.fails(command, string(api.CodeNoApp))                // root
	}
	s.run(`printf 'unit = "other.service"\nuser = "alice"\nfiles = ["/usr/bin/agentctl"]\n' >/etc/agentd/apps.d/other.toml && agentctl app reload`)
	s.fails(as("alice", "agentctl unseal --name database"), string(api.CodeNotFound))
	derived := s.run(as("alice", "agentctl key derive --label disk --length 32") + " | od -An -v -tx1 | tr -d ' \\n'")
	if len(derived) != 64 || derived == s.derived {
		s.t.Fatalf("another application derives %q", derived)
	}
	s.run("rm /etc/agentd/apps.d/other.toml && agentctl app reload")
	s.opens()
}

// sealOften makes the application store values in the background, one after the other. The
// values that it writes to /tmp/sealed are on disk.
const sealOften = `rm -f /tmp/sealed; (i=0; while :; do i=$((i+1)); vmguest ask /run/billing/socket seal counted $i >/dev/null && echo $i >>/tmp/sealed; done >/dev/null 2>&1 &)`

// sealedUntil returns the last value that the agent told the application was stored.
func (s *session) sealedUntil() int {
	s.t.Helper()
	out := s.eventually("n=$(tail -n 1 /tmp/sealed) && test $n -ge 3 && echo $n")
	n, err := strconv.Atoi(strings.TrimSpace(out))
	s.must(err)
	return n
}

// countedFrom checks that the last stored value is there, or a later one.
func (s *session) countedFrom(least int) {
	out := s.app("unseal counted")
	if n, err := strconv.Atoi(out); err != nil || n < least {
		s.t.Fatalf("value %q opens, and %d was stored before the power went", out, least)
	}
}
