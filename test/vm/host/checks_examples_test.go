// SPDX-License-Identifier: Apache-2.0

package host

import "strings"

// pythonService is the service with a virtual environment of docs/operating.md. The page names the
// folder of Debian 13's Python, and a reader replaces it by that of the machine.
func (s *session) pythonService() {
	s.example("report", "/usr/lib/python3.13", strings.TrimSpace(s.run(`python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'`)))
}

// container is the container under a system unit of docs/operating.md. Its program is named
// by its path outside the container.
func (s *session) container() {
	s.example("web")
}

// example declares, enables and starts an application, verifies evidence that it asked for,
// and removes it again. No other declaration may cover the files that its processes execute. with
// are pairs: what a reader replaces in the declaration, and by what.
func (s *session) example(name string, with ...string) {
	s.t.Helper()
	declaration, err := pageFile("/etc/agentd/apps.d/" + name + ".toml")
	s.must(err)
	declaration = strings.NewReplacer(with...).Replace(declaration)
	unit := name + ".service"
	s.run("cat >/etc/agentd/apps.d/" + name + ".toml <<'EOF'\n" + declaration + "EOF\n" +
		"agentctl app reload && agentctl app enable " + unit + " --yes && systemctl start " + unit)
	socket := "/run/" + name + "/socket"
	s.eventually("test -S " + socket)
	digest := s.appDigest(name)
	n := nonce()
	document := s.askAt(socket, n, "fresh")
	s.verifies(0, name, document, n, digest)
	s.run("systemctl stop " + unit + " && agentctl app disable " + unit + " && rm /etc/agentd/apps.d/" + name + ".toml && agentctl app reload")
}
