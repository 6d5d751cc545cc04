// SPDX-License-Identifier: Apache-2.0

package strictjson

import "testing"

func TestLater(t *testing.T) {
	for document, want := range map[string]bool{
		`{"type":"agentd/ak/2"}`:                    true,
		`{"type":"agentd/ak/10","more":{"a":[1]}}`:  true,
		`{"type":"agentd/ak/1"}`:                    false,
		`{"type":"agentd/ak/0"}`:                    false,
		`{"type":"agentd/ledger/2"}`:                false,
		`{"type":"agentd/ak/x"}`:                    false,
		`{"type":"agentd/ak/99999999999999999999"}`: false,
		`{"type":2}`:                                false,
		`{}`:                                        false,
		`{"type":"agentd/ak/2"`:                     false,
		``:                                          false,
		`{"type":"agentd/ak/2","padding":"` + "x" + `"} `: true,
	} {
		if got := Later([]byte(document), 100, "agentd/ak/1"); got != want {
			t.Errorf("%s: %v", document, got)
		}
	}
	if Later([]byte(`{"type":"agentd/ak/2"}`), 10, "agentd/ak/1") {
		t.Error("more than the limit was read")
	}
}
