// SPDX-License-Identifier: Apache-2.0

package host

// Words that the page leaves to the operator.
const (
	billingDigest = "$(agentctl app list | sed -n '/^billing:/,/^[a-z]/s/.*digest //p' | head -n 1)"
	laterDigest   = "5f2b0000000000000000000000000000000000000000000000000000000000ab"
	recipient     = "$(age-keygen -y recovery.txt)"
	storeKey      = "$(cat store-key.txt)"
)

// configured writes the recipient into the configuration.
const configured = `cd /root/session && sed -i "s/^#*recovery_recipients = .*/recovery_recipients = [\"$(age-keygen -y recovery.txt)\"]/" /etc/agentd/config.toml &&
systemctl restart agentd && agentctl status --wait 1m`

// keySteps are those of an operator whose applications get keys.
var keySteps = []step{
	{page: operatingPage, line: "age-keygen -o recovery.txt", says: []string{"Public key: age1"}},
	{page: operatingPage, line: "age-keygen -y recovery.txt", says: []string{"age1"}, after: configured},
	{page: operatingPage, line: "agentctl doctor", says: []string{"ok    derived keys", works}},
	{page: operatingPage, line: "agentctl seal --what-if", types: "systemctl restart billing.service && journalctl -u billing -o cat --no-pager | tail -n 40",
		before: `mkdir -p /run/systemd/system/billing.service.d && printf '[Service]\nExecStartPre=/usr/bin/agentctl seal --what-if\n' >/run/systemd/system/billing.service.d/what-if.conf && systemctl daemon-reload`,
		says:   []string{"outcome of each change:"},
		after:  "rm -r /run/systemd/system/billing.service.d && systemctl daemon-reload && systemctl restart billing"},
	{page: operatingPage, line: "agentctl key store-key > store-key.txt", before: "vmguest ask /run/billing/socket seal database password && vmguest ask /run/billing/socket derive disk >/root/derived",
		after: "grep '^agentd-store-key:' /root/session/store-key.txt"},
	{page: operatingPage, line: "agentctl key store-key", says: []string{"agentd-store-key:"}},
	{page: operatingPage, line: "agentctl key list", says: []string{"snp+tpm", "billing", "database"}},
	{page: operatingPage, line: "agentctl key show APP NAME", with: []string{"APP NAME", "billing database"}, says: []string{"snp+tpm"}},
	{page: operatingPage, line: "agentctl key rewrap"},
	{page: operatingPage, line: "agentctl key rotate APP", with: []string{"APP", "billing"}, after: "! vmguest ask /run/billing/socket derive disk | cmp -s - /root/derived"},
	{page: operatingPage, line: "agentctl key retire APP VERSION", with: []string{"APP VERSION", "billing 1"}, after: "vmguest ask /run/billing/socket derive disk >/root/derived"},
	{page: operatingPage, line: "agentctl key recipients NEW...", with: []string{"NEW...", recipient},
		before: "cd /root/session && mv recovery.txt old.txt && age-keygen -o recovery.txt",
		after:  configured + " && agentctl key store-key > store-key.txt"},
	{page: operatingPage, line: "agentctl key rotate-store-key", after: "cd /root/session && ! agentctl key store-key | cmp -s - store-key.txt && agentctl key store-key > store-key.txt"},
	{page: operatingPage, line: "agentctl key require-digest --app APP", with: []string{"APP", "billing"}, says: []string{"digest"}},
	{page: operatingPage, line: "agentctl key authorize --app APP --digest DIGEST", with: []string{"APP", "billing", "DIGEST", laterDigest}},
	{page: operatingPage, line: "agentctl key withdraw --app APP --digest OLD", with: []string{"APP", "billing", "OLD", laterDigest}, after: opens},
	{page: operatingPage, line: "agentctl key lift-digest --app APP", with: []string{"APP", "billing"}},
}

// clearedSteps are those after the TPM was cleared, under the agent and without it.
var clearedSteps = []step{
	{page: operatingPage, line: "agentctl key rewrap", before: "tpm2_clear -c l", code: 8, says: []string{"counter-lost"}},
	{page: operatingPage, line: "agentctl key accept-rollback"},
	{page: operatingPage, line: "agentctl key rewrap"},
	{page: operatingPage, line: "systemctl restart agentd"},
	{page: operatingPage, line: "agentctl key replace-ak"},
	{page: operatingPage, line: "agentctl enroll request --out request.json", after: opens},
	{page: operatingPage, line: "agentctl key replace-ak", before: "systemctl stop agentd; tpm2_clear -c l; systemctl start agentd; agentctl status; true"},
	{page: operatingPage, line: "agentctl enroll request --out request.json"},
	{page: operatingPage, line: "agentctl key recover --identity recovery.txt --store-key KEY --recipient AGE", with: []string{"KEY", storeKey, "AGE", recipient}, after: opens},
	{page: operatingPage, line: "agentctl key recover --identity FILE --store-key KEY --recipient AGE", with: []string{"FILE", "recovery.txt", "KEY", storeKey, "AGE", recipient}, after: opens,
		before: "cd /root && systemctl stop agentd && mv /var/lib/agentd/sealed . && rm -r /var/lib/agentd/* && tpm2_clear -c l && mv sealed /var/lib/agentd/ && systemctl start agentd; agentctl status; true"},
	{page: operatingPage, line: "agentctl key recover --store-key KEY --recipient AGE", with: []string{"KEY", storeKey, "AGE", recipient}},
	{page: verifyPage, line: "agentctl enroll --help", says: []string{"activate"}},
	{page: verifyPage, line: "agentctl policy enrolment record.json >> policy.toml", after: "cd /root/session && grep '^\\[\\[enrolment' policy.toml && agentctl policy explain policy.toml >/dev/null",
		before: `cd /root/session && agentctl enroll request --out request.json && agentctl enroll challenge --keep kept.json --out challenge.json request.json &&
agentctl enroll activate --out answer.json challenge.json && agentctl enroll finish --kept kept.json --out record.json answer.json`},
}

// opens is a script that fails if the application has not its secrets.
const opens = "test \"$(vmguest ask /run/billing/socket unseal database)\" = password && vmguest ask /run/billing/socket derive disk | cmp - /root/derived"

// walkKeys sets keys up, and gets the secrets back after each accident of the page.
func (s *session) walkKeys() {
	s.walk(keySteps)
	s.walk(clearedSteps)
}
