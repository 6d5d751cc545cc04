// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/sealing"
)

// billing is the app of the agents here.
func (a *agent) billing(t *testing.T) sealing.App {
	t.Helper()
	blob, _ := a.appRootBlob(t)
	return blob.Claimed.App
}

// request is one call of the API, with the example of its description.
type request struct{ method, target, body string }

// requests returns a call of every route that api/openapi.json describes, and calls with signing keys.
func requests(t *testing.T) (out []request) {
	t.Helper()
	var d struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name, In string
				Required bool
			}
			RequestBody struct {
				Content map[string]struct{ Example json.RawMessage }
			}
		}
	}
	must(t, json.Unmarshal([]byte(api.OpenAPI{}.String()), &d))
	values := map[string]string{"name": "billing", "app": "billing", "label": "host", "algorithm": string(api.SignP256)}
	for path, methods := range d.Paths {
		for method, o := range methods {
			query := url.Values{}
			for _, p := range o.Parameters {
				if p.In == "query" && p.Required {
					query.Set(p.Name, values[p.Name])
				}
			}
			target := strings.Replace(path, "{name}", "billing", 1)
			if len(query) > 0 {
				target += "?" + query.Encode()
			}
			out = append(out, request{strings.ToUpper(method), target, string(o.RequestBody.Content["application/json"].Example)})
		}
	}
	if len(out) < 30 {
		t.Fatalf("%d routes", len(out))
	}
	for _, algorithm := range api.SigningAlgorithms() {
		out = append(out,
			request{"POST", api.CallSign.Path, fmt.Sprintf(`{"label":"host","algorithm":%q,"message":"AAAA"}`, algorithm)},
			request{"POST", api.CallCertify.Path, fmt.Sprintf(`{"label":"host","algorithm":%q,"data":"AAAA"}`, algorithm)},
			request{"POST", api.CallEvidence.Path, fmt.Sprintf(`{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","freshness":"anchored","signingKey":{"label":"host","algorithm":%q}}`, algorithm)})
	}
	// Those of the store come last: they make a new version of the root, with other keys.
	slices.SortStableFunc(out, func(x, y request) int { return strings.Compare(x.target, y.target) })
	return out
}

// TestNoRouteHandsAKeyOut computes the private halves of an app's signing keys from the disk of its
// machine, and looks for them in what every route answers on both sockets, in the log of the agent
// and in its files.
func TestNoRouteHandsAKeyOut(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	a := start(t)
	shown := map[string]string{}
	for _, algorithm := range api.SigningAlgorithms() {
		out, err := a.run("billing.service", "key", "public", "--json", "--key", "host:"+string(algorithm))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		shown[string(algorithm)] = string(out)
	}
	root := a.rootKeys(t)[appRoot]
	private := map[string][]byte{}
	for _, algorithm := range api.SigningAlgorithms() {
		size, err := sealing.SigningSize(algorithm)
		must(t, err)
		material, err := hkdf.Expand(sha256.New, root, string(sealing.SigningInfo(a.billing(t), 1, algorithm, "host")), size)
		must(t, err)
		if sealing.InTPM(algorithm) { // with these an attacker makes the key, if the TPM takes commands from it
			private["the template of "+string(algorithm)] = material[:64]
			authorization := slices.Clone(material[64:])
			for i, b := range authorization {
				authorization[i] = b%255 + 1
			}
			private["the authorization of "+string(algorithm)] = authorization
			continue
		}
		key, err := sealing.NewSigningKey(algorithm, material)
		must(t, err)
		public, err := key.PublicKey()
		must(t, err)
		if !strings.Contains(shown[string(algorithm)], fmt.Sprintf("%x", public)) {
			t.Fatalf("%s: the key that was computed is not that of the agent: %x, %s", algorithm, public, shown[string(algorithm)])
		}
		private["what "+string(algorithm)+" is made from"] = material
		if curve := map[api.SigningAlgorithm]elliptic.Curve{api.SignP256: elliptic.P256(), api.SignP384: elliptic.P384()}[algorithm]; curve != nil {
			one, n := big.NewInt(1), curve.Params().N
			d := new(big.Int).Mod(new(big.Int).SetBytes(material), new(big.Int).Sub(n, one))
			private[string(algorithm)] = d.Add(d, one).FillBytes(make([]byte, curve.Params().BitSize/8))
		}
	}
	answered := 0
	for _, r := range requests(t) {
		for _, socket := range []string{a.Socket(), a.AdminSocket()} {
			cmd := exec.Command(curl, "-sS", "-m", "120", "--unix-socket", socket, "-X", r.method, "http://agentd"+r.target)
			if r.body != "" {
				cmd.Args = append(cmd.Args, "-d", r.body)
			}
			cmd.Env = append(os.Environ(), declared.Variable+"=billing.service")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s %s: %v\n%s", r.method, r.target, err, out)
			}
			if !bytes.Contains(out, []byte(`"code":"`)) {
				answered++
			}
			absent(t, r.method+" "+r.target, out, private)
		}
	}
	if answered < 20 {
		t.Errorf("%d requests were answered: the test sees too little", answered)
	}
	absent(t, "the log of the agent", []byte(a.Output()), private)
	files, err := filepath.Glob(filepath.Join(a.Dir, "state", "*", "*"))
	must(t, err)
	for _, name := range files {
		b, err := os.ReadFile(name)
		must(t, err)
		absent(t, name, b, private)
	}
}

// absent checks that none of the secrets is in b, in any form.
func absent(t *testing.T, where string, b []byte, secrets map[string][]byte) {
	t.Helper()
	for name, secret := range secrets {
		for form, needle := range forms(secret) {
			if bytes.Contains(b, needle) {
				t.Errorf("%s: the private half of %s is there %s", where, name, form)
			}
		}
	}
}
