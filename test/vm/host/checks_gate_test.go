// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"strings"
)

// gated prints what the log says of the gate, one line for each record.
const gated = `agentctl log --json | jq -r '.records[].event | select(.gateStart or .gateGap or .exec) | .type + " " + ((.gateStart.apps // []) | map(.app) | join(",")) + (.exec.path // "") + (.gateGap.app // "")'`

// gateGuards enables the gate for an application of its own, under the package's units, and checks
// what starts: swapped, stopped, killed, by a script and by the dynamic loader (case 126).
func (s *session) gateGuards() {
	s.run(`set -e; mkdir -p /opt/gated && cp /bin/true /opt/gated/program && printf '#!/bin/sh\ntrue\n' >/opt/gated/script && chmod +x /opt/gated/script
printf '[Service]\nType=oneshot\nExecStart=/opt/gated/program\n' >/etc/systemd/system/gated.service
printf 'unit = "gated.service"\nuser = "root"\ndirectories = ["/opt/gated"]\ngate = "enforce"\n' >/etc/agentd/apps.d/gated.toml
systemctl daemon-reload; agentctl app reload; systemctl start agentd-gate.service; systemctl is-enabled agentd-gate.service && exit 1; true`)
	s.eventually(gated + " | tail -n 1 | grep '^gate-start gated$'")
	s.want("agentctl status", "gate: asked for by 1 application, guards 1")
	out := strings.TrimSpace(s.run("systemd-analyze security agentd-gate.service | grep -o 'exposure level for agentd-gate.service: [0-9.]*' | grep -o '[0-9.]*$'"))
	s.t.Logf("exposure of agentd-gate.service: %s", out)
	s.run("/opt/gated/program && /opt/gated/script && sh /opt/gated/script && systemctl start gated.service")

	// What the manifest did not list when it was asked for does not start; the loader hides it.
	s.run("cp /bin/echo /opt/gated/other")
	s.fails("/opt/gated/other hidden", "Operation not permitted")
	s.eventually(gated + " | grep '^exec /opt/gated/other$'")
	s.want("$(ls /lib64/ld-linux-x86-64.so.2) /opt/gated/other hidden", "hidden")
	s.run("agentctl measure --app gated")
	s.want("/opt/gated/other known", "known")

	// The agent restarts: the gate goes on, and nothing is a gap.
	s.run("systemctl restart agentd")
	s.eventually("agentctl log --json | jq -e '[.records[].event.gateStart | select(. != null)] | last | .carried'")
	s.want(gated+" | grep -c '^gate-gap' || true", "0")
	s.run("/opt/gated/program")

	// 10,000 swaps of two programs, which say what they are: no record names other bytes than ran.
	s.run("sed -i 's/\"enforce\"/true/' /etc/agentd/apps.d/gated.toml && agentctl app reload")
	s.swaps()

	// A stopped gate holds programs up, and evidence says so; a killed one lets them start.
	s.run("systemctl kill -s STOP agentd-gate.service && ! timeout 2 /opt/gated/program")
	s.run("agentctl attest --nonce " + nonce() + " >/dev/null")
	s.want(gated+" | tail -n 1", "gate-gap")
	s.eventually("timeout 2 /opt/gated/program") // systemd's watchdog ends it
	s.eventually(gated + " | tail -n 1 | grep '^gate-start gated$'")
	before := strings.TrimSpace(s.run(gated + " | grep -c '^gate-gap'"))
	s.run("systemctl kill -s KILL agentd-gate.service; /opt/gated/program && agentctl attest --nonce " + nonce() + " >/dev/null")
	if after := strings.TrimSpace(s.run(gated + " | grep -c '^gate-gap'")); after == before {
		s.t.Fatalf("a killed gate is not in the log: %s gaps before and after", after)
	}
	s.run("rm /etc/agentd/apps.d/gated.toml && agentctl app reload && systemctl stop agentd-gate.service && rm -r /opt/gated /etc/systemd/system/gated.service && systemctl daemon-reload")
}

// swaps renames two programs over each other's name while the name is started.
func (s *session) swaps() {
	s.t.Helper()
	out := s.run(fmt.Sprintf(`set -e; d=/opt/gated; cp /bin/echo $d/a; cp /bin/echo $d/b; printf x >>$d/b
agentctl measure --app gated >/dev/null; rm -f $d/name
( i=0; while [ $i -lt %d ]; do ln $d/a $d/new; mv -f $d/new $d/name; rm -f $d/new; ln $d/b $d/new; mv -f $d/new $d/name; rm -f $d/new; i=$((i+1)); done ) &
n=0; while kill -0 $! 2>/dev/null; do $d/name ran >/dev/null 2>&1 && n=$((n+1)); done; wait; echo started $n`, 5000))
	s.t.Log(strings.TrimSpace(out))
	listed := s.run("sha256sum /opt/gated/a /opt/gated/b | cut -c 1-64")
	for digest := range strings.FieldsSeq(s.run(`agentctl log --json | jq -r '.records[].event.exec | select(. != null and .path == "/opt/gated/name") | .digest'`)) {
		s.t.Errorf("a record names %s, and only\n%s were there", digest, listed)
	}
}
