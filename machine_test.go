// SPDX-License-Identifier: Apache-2.0

package agentd_test

import (
	"bytes"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// machine is a double of an agent: it answers each request with the same evidence.
type machine struct {
	*httptest.Server
	socket string
	nonce  []byte // of the evidence
	policy string // accepts the machine's launch measurement
	config verify.Config
	now    time.Time // a time at which the certificates are valid
}

// simulated returns a machine with the evidence of docs/example.
func simulated() *machine {
	document := read("docs/example/evidence.json")
	block, _ := pem.Decode(read("docs/example/test-root.pem"))
	root := must(snp.ParseCertificates(block.Bytes))
	roots := must(snp.AMDRoots())
	if err := roots.AddTestRootThatVouchesForNoHardware(root[0]); err != nil {
		panic(err)
	}
	m := &machine{
		socket: filepath.Join(must(os.MkdirTemp("", "agentd")), "agentd.sock"),
		nonce:  bytes.Repeat([]byte{0x4E}, 32),
		policy: `version = 1
[[launch]]
measurement = "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d"
kind = "plain"
covers = "firmware+kernel+cmdline"
`,
		config: verify.Config{Roots: verify.Roots{SNP: roots}},
		now:    time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
	m.Server = &httptest.Server{
		Listener: must(net.Listen("unix", m.socket)),
		Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(document)
		})},
	}
	m.Start()
	return m
}

// Close stops the machine and removes its folder.
func (m *machine) Close() {
	m.Server.Close()
	os.RemoveAll(filepath.Dir(m.socket))
}

func read(file string) []byte { return must(os.ReadFile(filepath.FromSlash(file))) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
