// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// upgradeRows are what happens when a release key names a successor: docs/upgrades.md.
func upgradeRows() []outcome {
	return []outcome{
		{what: "upgraded to another launch measurement in this folder", do: upgradedTo("successor"),
			after: "the predecessor's part removed by root", then: func(b *bed) { b.do(root, "", "key", "upgrade-finish") }},
		{what: "upgraded, then launched as before", do: func(b *bed) { upgradedTo("successor")(b); b.launchNow() },
			code: "other-measurement", exit: closed, field: "measurement", after: "given up by root", then: func(b *bed) { b.do(root, "", "key", "upgrade-abort") }},
		{what: "upgraded and finished, then launched as before", do: func(b *bed) {
			upgradedTo("successor")(b)
			b.do(root, "", "key", "upgrade-finish")
			b.launchNow()
		}, code: "other-measurement", exit: closed, field: "measurement", after: "launched as the successor", then: launchedAs("successor")},
		{what: "upgraded, then launched from an image that no release names", do: func(b *bed) { upgradedTo("successor")(b); b.launchNow("--launch", "foreign") },
			code: "other-measurement", exit: closed, field: "measurement", after: "launched as the successor", then: launchedAs("successor")},
		{what: "handed over to a successor that did not accept", do: func(b *bed) { b.handOver("successor"); b.launchNow() }},
		{what: "upgraded, then recovered elsewhere with the old store key", do: func(b *bed) { upgradedTo("successor")(b); chip(2)(b) },
			code: "other-chip", exit: closed, field: "chip-id", after: "recovered with the right identity", then: recovered},
	}
}

// launchNow switches the machine off, to launch it with these flags of agentd-sim.
func (b *bed) launchNow(flags ...string) {
	b.off()
	b.flags = flags
}

func launchedAs(image string) func(*bed) { return func(b *bed) { b.launchNow("--launch", image) } }

// file of the bed's folder above the machine.
func (b *bed) beside(name string) string { return filepath.Join(filepath.Dir(b.dir), name) }

// handOver prepares an upgrade to an image, lets that ask, and has the old image answer.
func (b *bed) handOver(image string) {
	b.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(b.t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	must(b.t, err)
	must(b.t, os.WriteFile(b.beside("release.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	der, err = x509.MarshalPKCS8PrivateKey(private)
	must(b.t, err)
	must(b.t, os.WriteFile(b.beside("release.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	b.do(root, "", "key", "pin-release-key", b.beside("release.pub"))
	b.do(root, "", "key", "prepare-upgrade", "--measurement", fmt.Sprintf("hex:%x", sha512.Sum384([]byte("agentd-sim launch: "+image))),
		"--product", "milan", "--release-key", b.beside("release.pem"), "--valid-for", "1h", "--out", b.beside("offer"))
	b.launchNow("--launch", image)
	b.do(root, "", "key", "upgrade-request", b.beside("offer"), "--out", b.beside("request"))
	b.launchNow()
	b.do(root, "", "key", "upgrade-answer", b.beside("request"), "--out", b.beside("answer"))
}

// upgradedTo goes over to an image in the folder of the machine.
func upgradedTo(image string) func(*bed) {
	return func(b *bed) {
		b.t.Helper()
		b.on()
		storeKey := b.store().Status.StoreKey
		b.handOver(image)
		b.launchNow("--launch", image)
		b.do(root, "", "key", "upgrade-accept", "--store-key", storeKey, b.beside("answer"))
		b.off()
	}
}
