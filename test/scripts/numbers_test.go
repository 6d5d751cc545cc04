// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// TestNumbersOfCommands: what the commands print as JSON has no number that a reader with
// doubles would misread, and no null.
func TestNumbersOfCommands(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	m, err := simulated.Start(shared.commands, filepath.Join(t.TempDir(), "m"), shared.platform, "--declare-identity-without-checking")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	if err := m.Declare("demo", filepath.Join(shared.commands, "agentctl")); err != nil {
		t.Fatal(err)
	}
	const nonce = "00112233445566778899aabbccddeeff"
	evidence := filepath.Join(t.TempDir(), "evidence.json")
	verify := "verify --policy " + m.Policy() + " --nonce " + nonce + " --trust-test-root-that-vouches-for-no-hardware " + m.Root() + " " + evidence
	for _, line := range []string{
		"app reload", "measure --app demo", "attest --nonce " + nonce + " --out " + evidence, "attest --nonce " + nonce, verify, verify + " --audience x",
		"seal --what-if --name token", "key derive --label disk --length 32 --out " + filepath.Join(t.TempDir(), "key"), "seal --name token " + m.Root(),
		"key list", "key show demo", "key show demo token", "key store-key", "key rewrap", "show " + evidence, "status", "self", "version", "doctor",
		"app list", "app show demo", "log", "log --format cel-json", "policy explain " + m.Policy(), "policy rules", "frobnicate",
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(shared.commands, "agentctl"), append(strings.Fields(line), "--json")...)
		cmd.Env = append(os.Environ(), "AGENTD_SOCKET="+m.Socket(), "AGENTD_ADMIN_SOCKET="+m.AdminSocket(), "AGENTD_SIM_DECLARED_UNIT=demo.service")
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		if err := cmd.Run(); err != nil {
			lines := strings.Split(strings.TrimSpace(complaint.String()), "\n")
			out.WriteString(lines[len(lines)-1])
		}
		documents := 0
		for d := json.NewDecoder(&out); ; documents++ {
			d.UseNumber()
			var v any
			if d.Decode(&v) != nil {
				break
			}
			checkNumbers(t, line, v)
		}
		if documents == 0 && !strings.Contains(line, "--out") {
			t.Errorf("%s prints no JSON", line)
		}
	}
}

func checkNumbers(t *testing.T, where string, v any) {
	t.Helper()
	switch x := v.(type) {
	case nil:
		t.Errorf("%s: null", where)
	case json.Number:
		if n, err := strconv.ParseUint(x.String(), 10, 64); err != nil || n > strictjson.MaxInteger {
			t.Errorf("%s: %s", where, x)
		}
	case []any:
		for i, e := range x {
			checkNumbers(t, where+" "+strconv.Itoa(i), e)
		}
	case map[string]any:
		for name, e := range x {
			checkNumbers(t, where+" "+name, e)
		}
	}
}
