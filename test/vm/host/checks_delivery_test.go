// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// deliveryUnit takes secrets that relying parties deliver.
const deliveryUnit = "agentd-secrets.service"

// deliveryRules gives the machine an address, and enables the unit. One sender may deliver one secret.
const deliveryRules = `set -e
mkdir -p /run/systemd/network
printf '[Match]\nType=ether\n[Network]\nAddress=%s/24\n' >/run/systemd/network/test.network
systemctl start systemd-networkd
cat >/etc/agentd/ops.pem <<'EOF'
%sEOF
cat >/etc/agentd/deliveries.toml <<'EOF'
listen = ":%d"

[[deliver]]
app = "ops"
names = ["token"]
senders = ["/etc/agentd/ops.pem"]
replace = true
valid_for = "30m"
EOF
printf 'unit = "ops.service"\nuser = "root"\nfiles = ["/opt/reader/reader"]\n' >/etc/agentd/apps.d/ops.toml
agentctl app reload
if systemctl is-enabled ` + deliveryUnit + ` || systemctl is-active ` + deliveryUnit + `; then exit 1; fi
systemctl enable --now ` + deliveryUnit + `
`

// deliveryEnd takes back what the check did.
const deliveryEnd = `systemctl disable --now ` + deliveryUnit + ` 2>/dev/null; systemctl stop ops.service
agentctl secret remove --app ops token; agentctl app disable ops.service
rm -rf /etc/agentd/deliveries.toml /etc/agentd/ops.pem /etc/agentd/apps.d/ops.toml /etc/systemd/system/ops.service /run/systemd/network
agentctl app reload; systemctl stop systemd-networkd.socket systemd-networkd.service; systemctl daemon-reload; systemctl reset-failed`

// senderKey makes a relying party's key on this host, and returns its file and its public half.
func (s *session) senderKey(name string) (file, public string) {
	s.t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	s.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	s.must(err)
	spki, err := x509.MarshalPKIXPublicKey(pub)
	s.must(err)
	file = filepath.Join(s.machine.work, name)
	s.must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return file, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}

// send delivers the secret token of an app from this host, and returns the exit code and what agentctl
// says.
func (s *session) send(app, policy, key, secret string, more ...string) (int, string) {
	s.t.Helper()
	args := append([]string{"secret", "send", "--to", s.machine.outside, "--policy", policy, "--app", app, "--sender-key", key,
		"--trust-test-root-that-vouches-for-no-hardware", filepath.Join(s.machine.image, "test-root.pem")}, more...)
	cmd := exec.CommandContext(s.ctx, *agentctlFile, append(args, "token")...)
	cmd.Stdin = strings.NewReader(secret)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.must(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// delivered: a relying party on this host verifies the machine, and hands a secret to an app over the
// network, by the unit of the package as it is. systemd gives it to the app's unit. Another sender, a
// secret of another app, and a process that is not in the unit are refused. The secret is in no
// journal and in no file.
func (s *session) delivered() {
	defer s.run(deliveryEnd)
	key, public := s.senderKey("ops.pem")
	stranger, _ := s.senderKey("stranger.pem")
	s.run("install -D -m 0755 /usr/bin/sha256sum /opt/reader/reader\n" + readerUnit("ops.service") +
		fmt.Sprintf(deliveryRules, guestAddress, public, deliveryPort))
	s.eventually("grep -qF " + guestAddress + " /proc/net/fib_trie")
	s.exposed(deliveryUnit, 2)
	s.startsNothing(deliveryUnit)
	s.hidden(deliveryUnit)
	policy := filepath.Join(s.machine.work, "delivery.toml")
	s.must(os.WriteFile(policy, fmt.Appendf([]byte(s.ofOthers()), "\n[[app]]\nname = \"ops\"\nunit = \"ops.service\"\nuser = \"root\"\ndigests = [%q]\ncovered = \"now\"\n", s.appDigest("ops")), 0o600))

	first, second := "token-"+nonce(), "token-"+nonce()
	for _, c := range []struct {
		what, app, key string
		code           int
		says           string
		more           []string
	}{
		{"a sender that is not listed", "ops", stranger, 6, "connect to", nil},
		{"another app", "billing", key, 7, string(api.CodeNotPermitted), nil},
		{"another unit", "ops", key, 5, "policy.caller-unit", []string{"--unit", "other.service"}},
	} {
		if code, out := s.send(c.app, policy, c.key, first, c.more...); code != c.code || !strings.Contains(out, c.says) {
			s.t.Fatalf("%s: exit code %d, want %d and %q:\n%s", c.what, code, c.code, c.says, out)
		}
	}
	s.fails("agentctl secret list --app ops | grep token", "")
	s.arrives(policy, key, first)
	s.run("agentctl app enable ops.service --app ops --credential token --yes && systemctl start ops.service")
	s.opsHas(first)
	s.run("systemctl kill -s KILL " + deliveryUnit)
	s.eventually("test $(systemctl show -p NRestarts --value " + deliveryUnit + ") = 1 && systemctl is-active " + deliveryUnit)
	s.arrives(policy, key, second, "--replace")
	s.run("systemctl restart ops.service")
	s.opsHas(second)
	s.want("journalctl --sync; journalctl -u "+deliveryUnit+" -o cat --no-pager", "a connection is refused", "a delivery is refused", "a delivered secret is stored")
	for _, secret := range []string{first, second} {
		s.run("! journalctl --no-pager | grep -F " + secret + " && ! grep -raF " + secret + " /etc /var/lib /var/log /run/log /tmp /var/tmp")
	}
	s.accepts()
}

// arrives delivers the token of ops.
func (s *session) arrives(policy, key, secret string, more ...string) {
	s.t.Helper()
	if code, out := s.send("ops", policy, key, secret, more...); code != 0 || !strings.Contains(out, `the agent stored "token" for ops`) {
		s.t.Fatalf("exit code %d:\n%s", code, out)
	}
}

// opsHas checks that the unit of ops was given this secret, of which it prints the digest.
func (s *session) opsHas(secret string) {
	s.t.Helper()
	s.want("journalctl --sync; journalctl -q -o cat --no-pager -u ops | grep /token | tail -n 1",
		strings.TrimSpace(s.run("printf "+secret+" | sha256sum | cut -c 1-64")))
}

// hidden checks that the process of the unit, as root without a privilege, sees neither what else takes
// orders from root nor what it has no use for, and that it can write nowhere.
func (s *session) hidden(unit string) {
	s.t.Helper()
	s.want(`set -e; p=$(systemctl show -p MainPID --value `+unit+`); r=/proc/$p/root; stat -c 'uid %u' /proc/$p
for f in run/dbus run/systemd/private var/lib/systemd etc/ssl/private; do test -e /$f; echo "$f has mode $(stat -c %a $r/$f)"; done
for d in etc/agentd var/lib; do if touch $r/$d/x 2>/dev/null; then rm $r/$d/x; echo "writes $d"; exit 1; fi; done; echo "writes nothing"`,
		"uid 0\n", "run/dbus has mode 0\n", "run/systemd/private has mode 0\n", "var/lib/systemd has mode 0\n", "etc/ssl/private has mode 0\n", "writes nothing\n")
}
