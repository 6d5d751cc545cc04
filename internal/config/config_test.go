// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

func TestParse(t *testing.T) {
	c, err := Parse("config.toml", []byte(`
[tpm]
device = "unix:/run/swtpm.sock"
pcrs = "sha256:0-7,13+sha384:13"
timeout = "30s"

[measurement]
application_folders = ["/a", "/b"]
`), Default())
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.TPM.Device, want.TPM.PCRs, want.TPM.Timeout = "unix:/run/swtpm.sock", "sha256:0-7,13+sha384:13", Duration(30*time.Second)
	want.Measurement.ApplicationFolders = []string{"/a", "/b"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
}

func TestEmptyConfigIsComplete(t *testing.T) {
	c, err := Parse("config.toml", nil, Default())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, Default()) {
		t.Errorf("an empty file gives %+v", c)
	}
}

// TestConfigErrors: each names file, line, column and key.
func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"not TOML", "[tpm]\ndevice = \n", "c.toml:2:10: unexpected"},
		{"unknown key", "[tpm]\n\ndevise = \"/dev/tpm0\"", "c.toml:3:1: tpm.devise: unknown key"},
		{"unknown table", "[tmp]\ndevice = \"x\"", "c.toml:1:2: tmp: unknown key"},
		{"other case", "[tpm]\nDevice = \"x\"", "c.toml:2:1: tpm.Device: unknown key"},
		{"wrong type", "[measurement]\npcr = \"14\"", "c.toml:2:7: measurement.pcr: want a whole number from 0 to 4294967295"},
		{"negative", "[measurement]\npcr = -1", "c.toml:2:7: measurement.pcr: "},
		{"twice", "[tpm]\ndevice = \"/a\"\ndevice = \"/b\"", "c.toml:3:1: "},
		{"table twice", "[tpm]\n[tpm]\n", "c.toml:2:2: "},
		{"not a PCR", "[measurement]\npcr = 24", "c.toml:2:1: measurement.pcr: 24 is not a PCR"},
		{"PCR that can be reset", "[measurement]\npcr = 16", "c.toml:2:1: measurement.pcr: PCR 16 cannot have"},
		{"PCR of a dynamic launch", "[measurement]\npcr = 17", "c.toml:2:1: measurement.pcr: PCR 17 cannot have"},
		{"too large", "[measurement]\npcr = 4294967296", "c.toml:2:7: measurement.pcr: 4294967296 is too small or too large: want a whole number from 0 to 4294967295"},
		{"far too large", "[limits]\nrequests = 9223372036854775808", "c.toml:2:12: limits.requests: 9223372036854775808 is too small or too large: want a whole number"},
		{"attestation key", "[tpm]\nak = \"ek\"", "c.toml:2:1: tpm.ak: \"ek\" is not an attestation key: want one of"},
		{"TPM", "[tpm]\ndevice = \"tpm0\"", "c.toml:2:1: tpm.device: TPM address \"tpm0\": want /dev/tpmrm0"},
		{"a line break in a path", "[state]\nfolder = \"/a\\nb\"", "c.toml:2:1: state.folder: "},
		{"long socket", "[sockets]\nclient = \"/" + strings.Repeat("a", 107) + "\"", "c.toml:2:1: sockets.client: the path has 108 bytes"},
		{"lock of a socket", "[sockets]\nadmin = \"/run/agentd/agentd.sock.lock\"", "sockets.admin: \"/run/agentd/agentd.sock.lock\" is the lock of the client socket too"},
		{"folder twice", "[measurement]\napplication_folders = [\"/a\", \"/a\"]", "c.toml:2:30: measurement.application_folders[1]: \"/a\" is a folder of declarations too"},
		{"log in the state", "[measurement]\nlog_folder = \"/var/lib/agentd/log\"", "c.toml:2:1: measurement.log_folder: \"/var/lib/agentd/log\" is in the state folder"},
		{"state around a socket", "[state]\nfolder = \"/run/agentd\"", "sockets.client: \"/run/agentd/agentd.sock\" is in the state folder"},
		{"state below a socket", "[state]\nfolder = \"/run/agentd/agentd.sock/x\"", "c.toml:2:1: state.folder: \"/run/agentd/agentd.sock/x\" is below the client socket"},
		{"the socket for a TPM", "[tpm]\ndevice = \"unix:/run/agentd/agentd.sock\"", "tpm.device: \"/run/agentd/agentd.sock\" is the client socket too"},
		{"selection leaves it out", "# quoted\n[tpm]\npcrs = \"sha256:0-7\"", "c.toml:3:1: tpm.pcrs: \"sha256:0-7\" leaves out PCR 13"},
		{"PCR of events that the log has", "[measurement]\nevents_pcr = 13", "c.toml:2:1: measurement.events_pcr: PCR 13 has the measurement log itself"},
		{"PCR of events that the log is given", "[measurement]\npcr = 14\nevents_pcr = 14", "c.toml:3:1: measurement.events_pcr: PCR 14 has the measurement log itself"},
		{"PCR of events that is the firmware's", "[measurement]\nevents_pcr = 7", "measurement.events_pcr: PCR 7 is the firmware's: want 8, 9, 12, 13 or 14"},
		{"PCR of events that is IMA's", "[measurement]\nevents_pcr = 10", "measurement.events_pcr: PCR 10 is that of the kernel's IMA"},
		{"PCR of events that systemd extends as it boots", "[measurement]\nevents_pcr = 11", "measurement.events_pcr: systemd extends PCR 11 by the phases of the boot"},
		{"PCR of events that systemd extends for volumes", "[measurement]\nevents_pcr = 15", "measurement.events_pcr: systemd extends PCR 15 by the identity of the machine"},
		{"PCR of events that can be reset", "[measurement]\nevents_pcr = 16", "measurement.events_pcr: PCR 16 is reset by more than a start of the TPM"},
		{"PCR of events of a dynamic launch", "[measurement]\nevents_pcr = 17", "measurement.events_pcr: PCR 17 is reset by more"},
		{"selection leaves out the PCR of events", "tpm.pcrs = \"sha256:0-13\"\n[measurement]\nevents_pcr = 14", "c.toml:1:5: tpm.pcrs: \"sha256:0-13\" leaves out PCR 14"},
		{"PCR of events in SHA-1 alone", "tpm.pcrs = \"sha1:14+sha256:13\"\n[measurement]\nevents_pcr = 14", "c.toml:1:5: tpm.pcrs: \"sha1:14+sha256:13\" leaves out PCR 14 in a bank of SHA-256 or stronger"},
		{"nothing protects", "tpm.ephemeral = true\n[keys]\nwithout_derived_keys = true", "c.toml:3:1: keys.without_derived_keys: "},
		{"without a TPM that is there", "[keys]\nwithout_tpm = true", "c.toml:2:1: keys.without_tpm: "},
		{"selection", "tpm.pcrs = \"md5:1\"", "c.toml:1:5: tpm.pcrs: "},
		{"span", "[report]\nspacing = \"2\"", "c.toml:2:11: report.spacing: \"2\" is not a time span"},
		{"span too long", "[report]\ntimeout = \"3h\"", "c.toml:2:1: report.timeout: 3h0m0s is not within"},
		{"relative path", "[state]\nfolder = \"var\"", "c.toml:2:1: state.folder: \"var\" is not a clean absolute path"},
		{"path with dots", "[state]\nfolder = \"/var/../etc\"", "c.toml:2:1: state.folder"},
		{"one socket for two", "[sockets]\nadmin = \"/run/agentd/agentd.sock\"", "c.toml:2:1: sockets.admin: is the client socket too"},
		{"no folders", "[measurement]\napplication_folders = []", "c.toml:2:1: measurement.application_folders: is empty"},
		{"recipient", "[keys]\nrecovery_recipients = [\"age1x\"]", "c.toml:2:1: keys.recovery_recipients: number 1 is not an age"},
		{"no room for secrets", "[keys]\nsecrets_per_app = 0", "c.toml:2:1: keys.secrets_per_app: 0 is not within"},
		{"limit", "[limits]\nconnections = 0", "c.toml:2:1: limits.connections: 0 is not within"},
		{"more for a user than for all", "[limits]\nanswer_bytes = 67108864\nanswer_bytes_per_user = 67108865", "c.toml:3:1: limits.answer_bytes_per_user: 67108865 is more than limits.answer_bytes, which is 67108864: lower it too"},
		{"the part of a user is the default", "[limits]\nanswer_bytes = 100000000", "limits.answer_bytes_per_user: 134217728 is more than limits.answer_bytes, which is 100000000: lower it too"},
		{"the part of a user in connections", "[limits]\nconnections = 100", "limits.connections_per_user: 1024 is more than limits.connections, which is 100: lower it too"},
		{"the part of a user in requests", "[limits]\nrequests = 100", "limits.requests_per_user: 512 is more than limits.requests, which is 100: lower it too"},
		{"no room for the log", "[limits]\nanswer_bytes = 67108863\nanswer_bytes_per_user = 67108863", "c.toml:2:1: limits.answer_bytes: 67108863 is not within 67108864"},
		{"no room for the log of a user", "[limits]\nanswer_bytes_per_user = 67108863", "c.toml:2:1: limits.answer_bytes_per_user: 67108863 is not within 67108864"},
		{"no room for a body", "[limits]\nbody_bytes = 1000", "c.toml:2:1: limits.body_bytes: 1000 is not within"},
		{"no requests", "[limits]\nrequests_per_second_per_user = 0", "c.toml:2:1: limits.requests_per_second_per_user: 0 is not within"},
		{"no connections", "[limits]\nconnections_per_second_per_user = 0", "c.toml:2:1: limits.connections_per_second_per_user: 0 is not within"},
		{"an app without a name", "[keys]\ncertify_apps = [\"billing\", \"\"]", "c.toml:2:1: keys.certify_apps: app name of 0 bytes"},
		{"a unit in place of an app", "[keys]\ncertify_apps = [\"a@b\"]", "c.toml:2:1: keys.certify_apps: app name \"a@b\" contains"},
		{"many apps", "[keys]\ncertify_apps = [" + strings.Repeat("\"a\", ", maxCertifyApps+1) + "]", "c.toml:2:1: keys.certify_apps: 65 applications, at most 64"},
		{"a slice that asks", "[processes]\naskers = [\"a.service\", \"b.slice\"]", "c.toml:2:1: processes.askers: \"b.slice\" is not a system unit that processes run in"},
		{"a template that asks", "[processes]\naskers = [\"a@.service\"]", "c.toml:2:1: processes.askers: \"a@.service\" is not a system unit that processes run in"},
		{"a passing unit that asks", "[processes]\naskers = [\"run-u7.service\"]", "c.toml:2:1: processes.askers: \"run-u7.service\": systemd-run chose this name"},
		{"many that ask", "[processes]\naskers = [" + strings.Repeat("\"a.service\", ", maxAskers+1) + "]", "c.toml:2:1: processes.askers: 17 units, at most 16"},
		{"workers", "[limits]\nhashing_workers = 1025", "c.toml:2:1: limits.hashing_workers: 1025 is not within 0 to 1024"},
		{"huge", strings.Repeat("#", maxSize+1), "c.toml: 262145 bytes, at most 262144 are read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("c.toml", []byte(c.text), Default())
			var ce *Error
			if !errors.As(err, &ce) {
				t.Fatalf("got %v, want a *Error", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to contain %q", err, c.want)
			}
		})
	}
}

// TestConfigReportsEverything: one run names all that is wrong.
func TestConfigReportsEverything(t *testing.T) {
	_, err := Parse("c.toml", []byte("[state]\nfolder = \"x\"\n[report]\ndevice = \"y\"\n"), Default())
	if err == nil || !strings.Contains(err.Error(), "state.folder") || !strings.Contains(err.Error(), "report.device") {
		t.Errorf("got %v, want both keys", err)
	}
}

// A smaller log needs less room for answers.
func TestSmallLimits(t *testing.T) {
	c, err := Parse("c.toml", []byte("[limits]\nlog_bytes = 65536\nanswer_bytes = 262144\nanswer_bytes_per_user = 262144\n"), Default())
	if err != nil || c.Limits.AnswerBytes != 262144 {
		t.Errorf("%+v, %v", c.Limits, err)
	}
}

func TestLoad(t *testing.T) {
	c, b, err := Load(t.TempDir()+"/none.toml", Default())
	if err != nil || b != nil || !reflect.DeepEqual(c, Default()) {
		t.Errorf("absent file: %+v, %q, %v; want the defaults", c, b, err)
	}
	if _, _, err := Load(t.TempDir(), Default()); err == nil {
		t.Error("a folder was read as a configuration")
	}
}

// TestConfigIsDocumented: every key stands in docs/configuration.md with its default.
func TestConfigIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for table, keys := range allKeys() {
		if table != "" && !strings.Contains(string(doc), "\n## `["+table+"]`\n") {
			t.Errorf("docs/configuration.md has no section [%s]", table)
		}
		for key, value := range keys {
			if row := fmt.Sprintf("\n| `%s` | `%s` |", key, tomlValue(value)); !strings.Contains(string(doc), row) {
				t.Errorf("docs/configuration.md has no row %q", strings.TrimSpace(row))
			}
			n++
		}
	}
	if n < 15 {
		t.Errorf("only %d keys found: the walk is broken", n)
	}
}

// allKeys returns the default of each key, by its table; those outside tables have the empty one.
func allKeys() map[string]map[string]any {
	all := map[string]map[string]any{"": {}}
	v := reflect.ValueOf(Default())
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("toml")
		if v.Field(i).Kind() != reflect.Struct {
			all[""][name] = v.Field(i).Interface()
			continue
		}
		all[name] = map[string]any{}
		for j := range v.Field(i).NumField() {
			all[name][v.Field(i).Type().Field(j).Tag.Get("toml")] = v.Field(i).Field(j).Interface()
		}
	}
	return all
}

// tomlValue is a value as it is written in TOML.
func tomlValue(v any) string {
	switch v := v.(type) {
	case Duration:
		text := time.Duration(v).String()
		if whole, minutes := strings.CutSuffix(text, "m0s"); minutes {
			text = whole + "m"
		}
		return `"` + text + `"`
	case string, platform.Name, tpmkeys.AKChoice:
		return fmt.Sprintf("%q", v)
	case []string:
		var all []string
		for _, s := range v {
			all = append(all, fmt.Sprintf("%q", s))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(v)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[tpm]\ndevice = \"/dev/tpmrm0\"\n"))
	f.Add([]byte("measurement.pcr = 14\n[limits]\nconnections = 1\n"))
	f.Add([]byte("[[tpm]]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("c.toml", b, Default())
		if err == nil && c.TPM.Device == "" {
			t.Error("accepted without a TPM device")
		}
	})
}

// TestIdentityIsNotRepeated: an identity in the place of its recipient does not get into the
// journal.
func TestIdentityIsNotRepeated(t *testing.T) {
	const identity = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ9K4CN"
	_, err := Parse("c.toml", []byte("[keys]\nrecovery_recipients = [\""+identity+"\"]"), Default())
	if err == nil || strings.Contains(strings.ToUpper(err.Error()), identity[:20]) {
		t.Errorf("got %v", err)
	}
}

// TestTypesInOurWords: each key with each kind of value is taken, or refused with its line and
// in words of the file: a number is never a time span, and no type of Go is named.
func TestTypesInOurWords(t *testing.T) {
	ours := regexp.MustCompile(`\b(u?int(8|16|32|64)?|float64|time\.Duration|struct|reflect|unmarshal|toml: |cannot be stored|cannot decode|nil|slice)\b`)
	for table, keys := range allKeys() {
		for key, usual := range keys {
			key = strings.TrimPrefix(table+"."+key, ".")
			for _, value := range []string{
				"1", "10000000000", "-1", "0x7fffffffffffffff", "9223372036854775808", "-9223372036854775809", "1.5", "inf", "1e3", "true", `"5"`, `"x"`, `""`,
				"[]", "[1]", "[[]]", `["x"]`, "{}", "{a = 1}", "1979-05-27", "07:32:00", "0123", "1__0", "0x", "'a'", "",
			} {
				_, err := Parse("c.toml", []byte(key+" = "+value), Default())
				if err == nil {
					if _, span := usual.(Duration); span && value[0] != '"' {
						t.Errorf("%s = %s is taken for a time span", key, value)
					}
					continue
				}
				if said := strings.ReplaceAll(err.Error(), key, ""); ours.MatchString(said) || !strings.Contains(said, "c.toml:1:") {
					t.Errorf("%s = %s: %v", key, value, err)
				}
			}
		}
	}
}

// TestCheckMachine: what fits the machine depends on the user that the agent runs as, and not on the
// one who asks. That user is the owner of the state folder.
func TestCheckMachine(t *testing.T) {
	const agent, stranger = 12345, 12346
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give folders away")
	}
	dir := t.TempDir()
	c := Default()
	c.Sockets = Sockets{Client: filepath.Join(dir, "run/client"), Admin: filepath.Join(dir, "run/admin")}
	c.State.Folder, c.Measurement.LogFolder = filepath.Join(dir, "state"), filepath.Join(dir, "log")
	if uid := c.AgentUID(); uid == agent {
		t.Errorf("uid %d without a state folder", uid)
	}
	for _, name := range []string{"run", "state"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o755), os.Chown(filepath.Join(dir, name), agent, agent)); err != nil {
			t.Fatal(err)
		}
	}
	if uid := c.AgentUID(); uid != agent {
		t.Errorf("uid %d, want the owner of the state folder", uid)
	}
	for uid, fits := range map[int]bool{agent: true, 0: false, stranger: false} {
		if err := c.CheckMachine(uid); (err == nil) != fits {
			t.Errorf("an agent of uid %d: %v", uid, err)
		}
	}
	for name, wrong := range map[string]func(*Config){
		"group":        func(c *Config) { c.Sockets.ClientGroup = "no such group" },
		"place":        func(c *Config) { c.Sockets.Admin = "/dev/null/x" },
		"not a socket": func(c *Config) { c.Sockets.Admin = c.State.Folder },
		"one folder":   func(c *Config) { c.Measurement.LogFolder = c.State.Folder },
	} {
		x := c
		if wrong(&x); x.CheckMachine(agent) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
