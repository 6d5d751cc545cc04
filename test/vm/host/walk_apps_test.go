// SPDX-License-Identifier: Apache-2.0

package host

import (
	"regexp"
	"strings"

	"github.com/cvm-agentd/agentd/test/pages"
)

// developerSteps are those of the developer of an application.
var developerSteps = []step{
	{page: appsPage, line: "agentctl app reload", says: []string{"4 declared, 4 measured"}},
	{page: appsPage, line: "agentctl measure --app billing", says: []string{"billing measured: 1 file"}},
	{page: appsPage, line: "agentctl app list", says: []string{"nginx: measured"}},
	{page: appsPage, line: "agentctl doctor", says: []string{works}},
}

// declared is the unit of a declaration.
var declared = regexp.MustCompile(`(?m)^unit = "([a-z]+)@?[0-9]*\.service"$`)

// walkDeveloper declares each example of the page, and makes the mistake that it shows.
func (s *session) walkDeveloper() {
	s.run("cp -a /etc/agentd/apps.d /root/apps.d && rm /etc/agentd/apps.d/*")
	defer s.run("rm -rf /etc/agentd/apps.d && mv /root/apps.d /etc/agentd/apps.d && agentctl app reload && agentctl measure --app billing")
	p, err := pages.Read(root + appsPage)
	s.must(err)
	// What the declarations name.
	s.run(`set -e
install -m 0755 /bin/true /usr/bin/billing
mkdir -p /usr/sbin /usr/lib/python3.11 /opt/ingest/releases/1/bin /opt/report/src/var
install -m 0755 /bin/true /usr/sbin/nginx; getent passwd www-data
echo 'import os' >/usr/lib/python3.11/abc.py; echo 'a = 1' >/opt/report/config.toml
install -m 0755 /bin/true /opt/ingest/releases/1/bin/ingest; ln -sfn releases/1 /opt/ingest/current
for lib in ssl crypto; do test -e /usr/lib/x86_64-linux-gnu/lib$lib.so.3; done`)
	names := map[string]string{}
	for _, b := range p.Blocks {
		if b.Lang != "toml" || strings.Contains(b.Text, "\nimage = ") { // a container needs an engine: see TestContainers
			continue
		}
		m := declared.FindStringSubmatch(b.Text)
		if m == nil {
			s.t.Fatalf("%s:%d: a block in TOML is not a declaration", appsPage, b.Line)
		}
		names[m[1]] = b.Text
	}
	if len(names) != 4 {
		s.t.Fatalf("%s declares %d applications", appsPage, len(names))
	}
	for name, text := range names {
		file := "/etc/agentd/apps.d/" + name + ".toml"
		s.run("cat >" + file + " <<'END OF THE FILE'\n" + text + "END OF THE FILE\n")
		out := s.typed(step{page: appsPage, line: "agentctl policy reference --root DIR DECLARATION", with: []string{"DIR", "/", "DECLARATION", file}})
		s.contains("policy reference", out, []string{"[[app]]", `name = "` + name + `"`})
	}
	s.walk(developerSteps)
	for name := range names {
		digest := s.run("agentctl policy reference /etc/agentd/apps.d/" + name + ".toml | grep '^digests' | grep -o '[0-9a-f]\\{64\\}' | head -n 1")
		s.want("agentctl app list", strings.TrimSpace(digest))
	}
	// The mistake.
	for _, b := range p.Blocks {
		if b.Lang == "" && strings.HasPrefix(b.Text, "/etc/agentd/apps.d/") {
			s.run(`sed -i '1{/^#/d}; s,"/usr/bin/billing","bin/billing",' /etc/agentd/apps.d/billing.toml`)
			s.contains("a mistake", s.run("agentctl app reload 2>&1 || [ $? = 1 ]"), []string{strings.TrimSpace(b.Text)})
		}
	}
}
