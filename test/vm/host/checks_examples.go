// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
)

// pythonService is the service with a virtual environment of docs/operating.md.
func (s *session) pythonService(ctx context.Context) error {
	return s.example(ctx, "report", `unit = "report.service"
user = "report"
files = ["/opt/report/venv/bin/python3"]
directories = ["/opt/report/venv", "/opt/report/src", "/usr/lib/python3.13"]
`)
}

// container is the container under a system unit of docs/operating.md. Its program is named
// by its path outside the container.
func (s *session) container(ctx context.Context) error {
	return s.example(ctx, "web", `unit = "web.service"
user = "web"
directories = ["/var/lib/web/root"]
`)
}

// example declares, enables and starts an application, verifies evidence that it asked for,
// and removes it again. No other declaration may cover the files that its processes execute.
func (s *session) example(ctx context.Context, name, declaration string) error {
	unit := name + ".service"
	_, err := s.machine.run(ctx, "cat >/etc/agentd/apps.d/"+name+".toml <<'EOF'\n"+declaration+"EOF\n"+
		"agentctl app reload && agentctl app enable "+unit+" --yes && systemctl start "+unit)
	if err != nil {
		return err
	}
	socket := "/run/" + name + "/socket"
	if err := s.eventually(ctx, patience, "test -S "+socket); err != nil {
		return err
	}
	digest, err := s.appDigest(ctx, name)
	if err != nil {
		return err
	}
	n := nonce()
	document, err := s.askAt(ctx, socket, n, "fresh")
	if err != nil {
		return err
	}
	code, out, err := s.verifyAs(ctx, name, document, n, digest)
	if err != nil || code != 0 {
		return fmt.Errorf("verify: exit code %d, %v:\n%s", code, err, out)
	}
	_, err = s.machine.run(ctx, "systemctl stop "+unit+" && agentctl app disable "+unit+" && rm /etc/agentd/apps.d/"+name+".toml && agentctl app reload")
	return err
}
