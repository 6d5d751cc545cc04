// SPDX-License-Identifier: Apache-2.0

package verify

import "github.com/cvm-agentd/agentd/verify/internal/rule"

// policyKeys returns every key of a policy, dotted, lists of tables without their index.
func policyKeys() []string {
	var names []string
	for _, k := range rule.Keys() {
		names = append(names, k.Name)
	}
	return names
}
