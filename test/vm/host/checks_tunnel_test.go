// SPDX-License-Identifier: Apache-2.0

package host

import "fmt"

// tunnelUnit is the tunnel of the check.
const tunnelUnit = "agentd-tunnel@site.service"

// tunnelSite runs nginx on a socket, and readies a tunnel to it by a
// port that systemd opens.
const tunnelSite = `set -e
mkdir -p /run/site /etc/systemd/system/agentd-tunnel@site.socket.d
cat >/run/site/nginx.conf <<'EOF'
daemon off; pid /run/site/nginx.pid; error_log stderr;
events {}
http {
	access_log off;
	server {
		listen unix:/run/site/http.sock;
		location / { return 200 "nginx answers"; }
	}
}
EOF
systemd-run --quiet --unit=site.service nginx -c /run/site/nginx.conf
printf 'to = "unix:/run/site/http.sock"\n' >/etc/agentd/tunnels/site.toml
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:9443\n' >/etc/systemd/system/agentd-tunnel@site.socket.d/port.conf
printf 'unit = "` + tunnelUnit + `"\nuser = "agentd-tunnel"\nfiles = ["/usr/bin/agentctl"]\n' >/etc/agentd/apps.d/site.toml
systemctl daemon-reload
agentctl app enable ` + tunnelUnit + ` --app site --yes
systemctl start agentd-tunnel@site.socket
if systemctl is-enabled agentd-tunnel@site.socket || systemctl is-enabled ` + tunnelUnit + ` || systemctl is-active ` + tunnelUnit + `; then exit 1; fi
cp /var/lib/sevguest/test-root.pem /run/site/
chmod -R a+rX /run/site
`

// tunnelOutside runs the other end, as a user of the machine who has nothing but the policy.
const tunnelOutside = `systemd-run --quiet --unit=outside.service -p Type=notify -p User=alice agentctl tunnel connect --policy /run/site/policy.toml --any-certificate --listen 127.0.0.1:9000 --to 127.0.0.1:9443 --trust-test-root-that-vouches-for-no-hardware /run/site/test-root.pem
`

// tunnelReload has the other end read its policy again.
const tunnelReload = "systemctl kill --signal=HUP outside.service"

// tunnelAsk asks nginx by the tunnel.
const tunnelAsk = `python3 -c 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:9000/", timeout=60).read().decode())' 2>&1`

// tunnelPolicy returns a script that puts a policy into force that accepts the tunnel as the caller,
// under the name of a unit.
func (s *session) tunnelPolicy(unit, digest string) string {
	s.t.Helper()
	// Without caller.covered: an emulated processor may need longer to hash agentctl than the agent waits.
	text := s.ofOthers() + fmt.Sprintf("\n[caller]\nunit = %q\napp = \"site\"\n\n[[app]]\nname = \"site\"\nunit = %q\nuser = \"agentd-tunnel\"\ndigests = [%q]\ncovered = \"since-start\"\n", unit, tunnelUnit, digest)
	return "cat >/run/site/policy.new <<'EOF'\n" + text + "EOF\nchmod 0644 /run/site/policy.new && mv /run/site/policy.new /run/site/policy.toml\n"
}

// tunnelToNginx: a tunnel of the package, which is measured before it starts, leads to an nginx that
// is not changed. A client outside of the unit accepts its evidence by a policy that names the unit,
// and refuses it when the policy names another. The tunnel starts again after a kill, and reads its
// files again when it is told to.
func (s *session) tunnelToNginx() {
	defer s.run(`systemctl stop outside.service agentd-tunnel@site.socket ` + tunnelUnit + ` site.service 2>/dev/null
agentctl app disable ` + tunnelUnit + `; rm -rf /etc/agentd/apps.d/site.toml /etc/agentd/tunnels/site.toml /etc/systemd/system/agentd-tunnel@site.socket.d /run/site
agentctl app reload; systemctl daemon-reload; systemctl reset-failed`)
	s.run(tunnelSite)
	digest := s.appDigest("site")
	s.run(s.tunnelPolicy(tunnelUnit, digest) + tunnelOutside)
	s.eventually(tunnelAsk + " | grep 'nginx answers'")
	s.want("systemctl show -p ActiveState,User,NRestarts "+tunnelUnit+"; stat -c %U /proc/$(systemctl show -p MainPID --value "+tunnelUnit+")",
		"ActiveState=active", "NRestarts=0", "User=agentd-tunnel", "\nagentd-tunnel\n")
	s.exposed(tunnelUnit, 1.5)
	s.startsNothing(tunnelUnit)

	s.run(s.tunnelPolicy("other.service", digest) + tunnelReload)
	s.eventually("! " + tunnelAsk)
	s.eventually("journalctl -u outside.service -o cat --no-pager | grep policy.caller-unit")
	s.run(s.tunnelPolicy(tunnelUnit, digest) + tunnelReload)
	s.eventually(tunnelAsk)

	s.run("systemctl reload " + tunnelUnit)
	s.eventually("journalctl -u " + tunnelUnit + " -o cat --no-pager | grep reloaded")
	s.run("systemctl kill -s KILL " + tunnelUnit)
	s.eventually(tunnelAsk) // the socket keeps connections that wait
	s.want("systemctl show -p NRestarts "+tunnelUnit, "NRestarts=1")
}
