// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// Files for verifiers, in the folder of the machine.
const (
	rootFile   = "test-root.pem"
	policyFile = "policy.toml"
)

// policyText is a policy that evidence of this machine meets, as a beginning.
const policyText = `# An example of a policy, for evidence of one simulated machine. docs/policy.md
# describes every key. A policy for real machines lists real launch measurements.
version = 1
products = ["%s"]
freshness = "anchored"
max_anchor_age = "10m"
binding = "%s"
%s
[[launch]]
measurement = "%x"
kind = "%s"
covers = "firmware"
label = "simulated machine"

[guest_policy]
allow_smt = true

%s# The applications that must have been measured, by the digests of "agentctl app list":
#
# [[app]]
# name = "example"
# unit = "example.service"
# user = "example"
# digests = ["..."]
`

// publish writes what verifiers need. A policy that is there already is left alone: a
// person may have changed it.
func (m *machine) publish() error {
	root, err := m.platform.RootPEM()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(m.dir, rootFile), root, 0o644); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(m.dir, policyFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o := m.platform.Options()
	tables := m.policyTables
	if tables != "" {
		tables += "\n"
	}
	_, err = fmt.Fprintf(f, policyText, strings.ToLower(o.Product.String()), m.kind.binding, m.policyRoot, o.Measurement, m.kind.launch, tables)
	return errors.Join(err, f.Close())
}
