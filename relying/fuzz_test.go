// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// FuzzBodies: any body of any path has an answer of the service, which is never its fault, never a pass
// and never a token. The store of challenges takes each nonce, and the roots are AMD's, so that no
// evidence of tests passes.
func FuzzBodies(f *testing.F) {
	good := evidencetest.New().Encode(f)
	for _, path := range []string{"/v1/challenges", "/v1/appraisals", "/v1/jwks", "/v1/else"} {
		for _, body := range []string{``, `{}`, `{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","evidence":{}}`, `{"nonce":"Tk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk4=","evidence":` + string(good) + `}`} {
			f.Add(path, []byte(body))
		}
	}
	policy, err := verify.ParsePolicy([]byte("version = 1\nunlisted_launch = \"allow\"\n"))
	if err != nil {
		f.Fatal(err)
	}
	v, err := verify.New(policy, verify.Config{})
	if err != nil {
		f.Fatal(err)
	}
	s, err := relying.New(relying.Config{Policies: always(v, policy), Challenges: broken{}, Logs: relying.NewMemoryLogs(1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string, b []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(b)))
		r.URL.Path = path
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var a struct {
			relying.Answer
			Nonce []byte
			Code  api.Code
		}
		err := json.Unmarshal(w.Body.Bytes(), &a)
		if err != nil || a.Token != "" || w.Code >= 500 || (w.Code == 200) == (a.Code != "") || a.Appraisal != nil && a.Appraisal.Verdict != verify.Fail || w.Code == 200 && a.Appraisal == nil && len(a.Nonce) != relying.NonceSize {
			t.Errorf("%v, %d, %s", err, w.Code, w.Body)
		}
	})
}
