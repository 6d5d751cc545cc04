// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// provision declares an application and stores a secret of it that is in a file, which it removes.
// Then it enables the unit.
func (s *session) provision(app, unit, user, files, name, file string) {
	s.t.Helper()
	s.run(fmt.Sprintf(`set -e
printf 'unit = "%[2]s"\nuser = "%[3]s"\nfiles = ["%[4]s"]\n' >/etc/agentd/apps.d/%[1]s.toml && agentctl app reload
agentctl secret put --app %[1]s %[5]s %[6]s && rm %[6]s
agentctl app enable %[2]s --app %[1]s --credential %[5]s --yes
grep -F 'LoadCredential=%[5]s:/run/agentd/credentials.sock' /etc/systemd/system/%[2]s.d/50-agentd.conf`, app, unit, user, files, name, file))
}

// retire takes back what provision did.
func (s *session) retire(app, unit, name string) {
	s.t.Helper()
	s.run(fmt.Sprintf(`set -e; systemctl stop "%[2]s" 2>/dev/null || true; systemctl reset-failed "%[2]s" 2>/dev/null || true
agentctl secret remove --app %[1]s %[3]s; agentctl app disable %[2]s; rm /etc/agentd/apps.d/%[1]s.toml; agentctl app reload`, app, unit, name))
}

// handshake is a script that speaks TLS with a server on a port, and prints what the server says.
// The server must have the key of the certificate.
const handshake = `python3 - %d %s <<'EOF'
import socket, ssl, sys
c = ssl.create_default_context(cafile=sys.argv[2])
with c.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60), server_hostname="localhost") as s:
    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    print(s.makefile().read())
EOF`

// certificate is a script that makes a key in /run and a certificate for it.
const certificate = `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout /run/site.key -out %s 2>/dev/null`

// nginxCredential runs the nginx of the package. The key of its certificate is a secret of the
// agent, and no file of the machine contains it.
func (s *session) nginxCredential() {
	s.run("set -e\n" + fmt.Sprintf(certificate, "/etc/nginx/site.pem") + `
cat >/etc/nginx/conf.d/site.conf <<'EOF'
server {
	listen 127.0.0.1:8443 ssl;
	ssl_certificate /etc/nginx/site.pem;
	ssl_certificate_key /run/credentials/nginx.service/site.key;
	location / { return 200 "the site"; }
}
EOF`)
	line := strings.TrimSpace(s.run("sed -n 2p /run/site.key"))
	s.provision("nginx", "nginx.service", "root", "/usr/sbin/nginx", "site.key", "/run/site.key")
	s.run("systemctl enable nginx 2>/dev/null; systemctl start nginx")
	s.want(fmt.Sprintf(handshake, 8443, "/etc/nginx/site.pem"), "the site")
	s.run("grep -raF '" + line + "' /etc /var /root; test $? = 1")
	s.fails("agentctl secret list --app nginx --json | grep -F '" + line + "'")
	s.want("agentctl secret list --app nginx", "site.key")
	s.nginx = s.appDigest("nginx") // relying parties list it from now on
	s.accepts()
}

// postgresCredential runs the PostgreSQL of the package, an instance of a template. The key of its
// certificate is encrypted, and the password is a secret of the agent. The package's unit runs as
// root and changes the user by itself. systemd gives a credential to the user of the unit, so a
// drop-in names that.
func (s *session) postgresCredential() {
	version := strings.TrimSpace(s.run("ls /etc/postgresql"))
	unit := "postgresql@" + version + "-main.service"
	config := "/etc/postgresql/" + version + "/main"
	s.run("set -e\n" + fmt.Sprintf(certificate, config+"/site.pem") + `
openssl rand -hex 24 | tr -d '\n' >/run/password
openssl pkcs8 -topk8 -in /run/site.key -v2 aes256 -passout file:/run/password -out ` + config + `/site.key
rm /run/site.key; chown postgres: ` + config + `/site.*; chmod 0600 ` + config + `/site.key
cat >` + config + `/conf.d/tls.conf <<'EOF'
ssl = on
ssl_cert_file = '` + config + `/site.pem'
ssl_key_file = '` + config + `/site.key'
ssl_passphrase_command = 'cat /run/credentials/` + unit + `/password'
EOF
mkdir -p /etc/systemd/system/postgresql@.service.d
printf '[Service]\nUser=postgres\n' >/etc/systemd/system/postgresql@.service.d/user.conf; systemctl daemon-reload`)
	s.provision("postgres", "postgresql@.service", "postgres", "/usr/lib/postgresql/"+version+"/bin/postgres", "password", "/run/password")
	s.run("systemctl start " + unit)
	s.want("openssl s_client -starttls postgres -connect 127.0.0.1:5432 -CAfile "+config+"/site.pem -verify_return_error </dev/null 2>&1", "Verify return code: 0 (ok)")
	s.retire("postgres", "postgresql@.service", "password")
	s.fails("systemctl stop "+unit+"; systemctl start "+unit+" && openssl s_client -starttls postgres -connect 127.0.0.1:5432 -verify_return_error </dev/null", "")
	s.run("systemctl stop " + unit + "; systemctl reset-failed " + unit + "; rm " + config + "/conf.d/tls.conf")
}

// reader is a unit that prints the digest of its credential. Its program is a file of its own.
const reader = `[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
%s
ExecStart=/opt/reader/reader %%d/token
`

// readerUnit writes the unit, with more lines.
func readerUnit(name string, lines ...string) string {
	return "cat >/etc/systemd/system/" + name + " <<'EOF'\n" + fmt.Sprintf(reader, strings.Join(lines, "\n")) + "EOF\nsystemctl daemon-reload\n"
}

const tokenLine = "LoadCredential=token:/run/agentd/credentials.sock"

// dynamicCredential gives a secret to a unit with DynamicUser=, whose identity is the unit alone,
// and to an instance of a template, and has it rotated.
func (s *session) dynamicCredential() {
	s.run("install -D -m 0755 /usr/bin/sha256sum /opt/reader/reader\n" + readerUnit("dynamic@.service", "DynamicUser=yes"))
	s.run("printf first >/run/token")
	s.provision("dynamic", "dynamic@.service", "root", "/opt/reader/reader", "token", "/run/token")
	for _, content := range []string{"first", "second"} {
		s.run("printf " + content + " | agentctl secret rotate --app dynamic token && systemctl restart dynamic@one dynamic@two")
		s.want("for i in one two; do journalctl -q -o cat --no-pager -u dynamic@$i | grep /token | tail -n 1 | cut -c 1-64; done; printf "+content+" | sha256sum",
			strings.Repeat(strings.TrimSpace(s.run("printf "+content+" | sha256sum | cut -c 1-64"))+"\n", 2))
	}
	s.retire("dynamic", "dynamic@.service", "token")
	s.run("systemctl stop 'dynamic@*'")
}

// refusedUnit checks that a unit does not start for want of its credential, and that one line of
// the agent says why, by the unit's name.
func (s *session) refusedUnit(unit, credential string, code api.Code) {
	s.t.Helper()
	since := strings.TrimSpace(s.run("journalctl --sync; journalctl -q -u agentd -n 1 --show-cursor --no-pager | sed -n 's/^-- cursor: //p'"))
	s.fails("systemctl restart " + unit)
	s.want("systemctl show -p Result,ExecMainStatus,ActiveState,NRestarts "+unit+"; systemctl show -p ExecStartPre,ExecStart "+unit, "ActiveState=failed")
	s.want("journalctl -q -o cat --no-pager -u "+unit+" | tail -n 20", "243/CREDENTIALS")
	lines := s.run("journalctl --sync; journalctl -q -u agentd -o cat --no-pager --after-cursor='" + since + "' | grep -F '" + unit + "'")
	if n := strings.Count(lines, "\n"); n != 1 || !strings.Contains(lines, credential) || !strings.Contains(lines, string(code)) {
		s.t.Fatalf("want one line of the agent with %s, %s and %s:\n%s", unit, credential, code, lines)
	}
	s.run("systemctl reset-failed " + unit)
}

// othersCredential asks for the credential of nginx as another unit, as root outside a unit with
// the address of nginx, as a program of another unit with that address, as one that root put into
// the control group of nginx, and as a user (case 120).
func (s *session) othersCredential() {
	s.run("install -D -m 0755 /usr/bin/sha256sum /opt/reader/reader\n" + readerUnit("thief.service", "LoadCredential=site.key:/run/agentd/credentials.sock"))
	s.refusedUnit("thief.service", "site.key", api.CodeNoApp)
	s.run(readerUnit("nginx-thief@.service", "SetCredential=site.key:mine", "LoadCredential=site.key:/run/agentd/credentials.sock"))
	s.refusedUnit("nginx-thief@nginx.service", "site.key", api.CodeNoApp)
	const ask = `cat >/tmp/ask.py <<'EOF'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(120)
s.bind("\0" + "0123456789abcdef/unit/nginx.service/site.key")
s.connect("/run/agentd/credentials.sock")
s.shutdown(socket.SHUT_WR)
n, other = 0, False
while True:
    try:
        b = s.recv(1 << 16)
    except ConnectionResetError:
        break
    if not b:
        break
    n, other = n + len(b), other or any(b)
print("refused" if not other and (n == 0 or n >= 1 << 20) else "GOT", n)
EOF
`
	s.want(ask+"python3 /tmp/ask.py", "refused")
	for _, unit := range []string{"--unit=asker.service", "--unit=nginx-asker.service --slice=system-nginx.slice", "--scope"} {
		s.want("systemd-run --quiet --collect "+unit+map[bool]string{true: "", false: " --wait --pipe"}[unit == "--scope"]+" python3 /tmp/ask.py", "refused")
	}
	// A process of root that is in the control group of nginx is not systemd.
	s.want("sh -c 'echo $$ >/sys/fs/cgroup/system.slice/nginx.service/cgroup.procs && exec python3 /tmp/ask.py'", "refused")
	s.fails("runuser -u alice -- python3 /tmp/ask.py", "Permission denied")
	s.want(fmt.Sprintf(handshake, 8443, "/etc/nginx/site.pem"), "the site")
	s.run("rm /etc/systemd/system/thief.service /etc/systemd/system/nginx-thief@.service; systemctl daemon-reload")
}

// replacedCredential replaces the program of a unit whose keys require a digest. Only after the
// new one is authorised the unit starts.
func (s *session) replacedCredential() {
	s.run("install -D -m 0755 /usr/bin/sha256sum /opt/reader/reader; printf token >/run/token\n" + readerUnit("reader.service"))
	s.provision("reader", "reader.service", "root", "/opt/reader/reader", "token", "/run/token")
	s.run("systemctl start reader && agentctl key require-digest --app reader && systemctl restart reader")
	s.run("install -m 0755 /usr/bin/md5sum /opt/reader/new && mv /opt/reader/new /opt/reader/reader")
	s.refusedUnit("reader.service", "token", api.CodeDigestNotAuthorised)
	digest := strings.TrimSpace(s.run(`agentctl policy reference /etc/agentd/apps.d/reader.toml | sed -n 's/^digests = \["\(.*\)"\]$/\1/p'`))
	s.run("agentctl key authorize --app reader --digest " + digest + " && systemctl restart reader")
	s.want("journalctl -q -o cat --no-pager -u reader | grep /token | tail -n 1", strings.TrimSpace(s.run("printf token | md5sum | cut -c 1-32")))
	s.run("agentctl secret remove --app reader token")
	s.refusedUnit("reader.service", "token", api.CodeNotFound)
	s.run("printf token | agentctl secret put --app reader token")
	s.run("systemctl start reader && agentctl key lift-digest --app reader")
	s.retire("reader", "reader.service", "token")
	s.accepts() // the log does not say that anything may have run unseen
}

// fastCredential starts one unit with a credential of the agent, and with one that systemd
// decrypts with the TPM, in turn. The median of the former is not larger.
func (s *session) fastCredential() {
	const turns = 7
	s.run("install -D -m 0755 /usr/bin/sha256sum /opt/reader/reader; printf token >/run/token\n" + readerUnit("fast.service"))
	s.provision("fast", "fast.service", "root", "/opt/reader/reader", "token", "/run/token")
	s.run("agentctl app disable fast.service\n" + readerUnit("fast.service", tokenLine) + readerUnit("fast-tpm.service", "LoadCredentialEncrypted=token:/etc/token.cred") +
		"printf token | systemd-creds encrypt --with-key=tpm2 --name=token - /etc/token.cred 2>&1")
	out := s.run(`for i in $(seq ` + strconv.Itoa(turns) + `); do for u in fast fast-tpm; do
a=$(date +%s%N); systemctl start $u || exit 1; b=$(date +%s%N); systemctl stop $u; echo $u $(((b-a)/1000000)); done; done`)
	took := map[string][]int{}
	for line := range strings.Lines(out) {
		var unit string
		var ms int
		if _, err := fmt.Sscan(line, &unit, &ms); err != nil {
			s.t.Fatalf("%v: %s", err, out)
		}
		took[unit] = append(took[unit], ms)
	}
	median := func(unit string) int {
		l := slices.SortedFunc(slices.Values(took[unit]), cmp.Compare[int])
		if len(l) != turns {
			s.t.Fatalf("%s was started %d times: %s", unit, len(l), out)
		}
		return l[turns/2]
	}
	agent, tpm := median("fast"), median("fast-tpm")
	s.t.Logf("a start takes %d ms with a credential of the agent, %d ms with one of systemd-creds: ratio %.2f", agent, tpm, float64(agent)/float64(tpm))
	if agent > tpm {
		s.t.Errorf("slower than systemd-creds: %s", out)
	}
	s.run("rm /etc/systemd/system/fast*.service /etc/token.cred; systemctl daemon-reload; agentctl secret remove --app fast token; rm /etc/agentd/apps.d/fast.toml; agentctl app reload")
}

// credentialAtBoot checks that nginx started by itself in this boot, and has its key.
func (s *session) credentialAtBoot() {
	s.eventually("systemctl is-active nginx")
	s.want(fmt.Sprintf(handshake, 8443, "/etc/nginx/site.pem"), "the site")
}

// credentialRetired takes the key of nginx back. Without it nginx does not start.
func (s *session) credentialRetired() {
	s.credentialAtBoot()
	s.run("systemctl disable nginx 2>/dev/null")
	s.retire("nginx", "nginx.service", "site.key")
	s.nginx = ""
	s.fails("systemctl start nginx", "")
	s.run("systemctl reset-failed nginx; rm /etc/nginx/conf.d/site.conf")
}
