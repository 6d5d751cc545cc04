// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/keys"
)

// TestParseExpected: both versions are read, and none with what it never had.
func TestParseExpected(t *testing.T) {
	a := newAuthority(t)
	n := name(make([]byte, 32), make([]byte, 32))
	text, err := keys.Bundle{a.cert.Raw}.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	document := func(version, more string, secret int) string {
		return fmt.Sprintf(`{"type":"agentd/expected/%s","ek":%q,"ak":%q,"secret":%q%s}`, version, n, n, base64.StdEncoding.EncodeToString(make([]byte, secret)), more)
	}
	certificates := fmt.Sprintf(`,"issuer":"CN=x","certificates":%q`, text)
	for what, c := range map[string]struct {
		text, want string // "" if no error
	}{
		"first version":                   {document("1", "", 32), ""},
		"second version":                  {document("2", "", 32), ""},
		"with certificates":               {document("2", certificates, 32), ""},
		"first version with certificates": {document("1", certificates, 32), "came with"},
		"a version to come":               {document("3", "", 32), "want"},
		"short secret":                    {document("2", "", 31), "31 bytes"},
		"another member":                  {document("2", `,"x":1`, 32), "x"},
		"not certificates":                {document("2", `,"certificates":"no"`, 32), "PEM"},
	} {
		e, err := keys.ParseExpected([]byte(c.text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		if err != nil {
			continue
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := keys.ParseExpected(b)
		if err != nil || again.Issuer != e.Issuer || len(again.Certificates) != len(e.Certificates) {
			t.Errorf("%s: it does not survive being kept: %v", what, err)
		}
	}
}

// TestExpectedDoesNotShow: nothing prints the secret but Encode.
func TestExpectedDoesNotShow(t *testing.T) {
	ek, _ := madeEK(t, keys.EKECC256)
	_, e, err := keys.NewChallenge(ek.Bytes(), madeAK(t).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	secret := activate(nil, e)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+"\n", e)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "k", e)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "k", e)
	if b, err := json.Marshal(struct{ V any }{e}); err == nil {
		out.Write(b)
	}
	for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprint(secret), fmt.Sprintf("%#v", secret), base64.StdEncoding.EncodeToString(secret)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("it shows %q:\n%s", form, out.String())
		}
	}
}
