// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/cvm-agentd/agentd/keys"
)

func TestEnrolment(t *testing.T) {
	ek, _ := madeEK(t, keys.EKECC256)
	ak := madeAK(t)
	_, expected, err := keys.NewChallenge(ek.Bytes(), ak.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	answer := activate(nil, expected)
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("east", 3600))
	if _, err := keys.NewEnrolment(expected, append([]byte{answer[0] ^ 1}, answer[1:]...), keys.NoIssuer, now); !errors.Is(err, keys.ErrCredential) {
		t.Errorf("a wrong answer enrols: %v", err)
	}
	if _, err := keys.NewEnrolment(expected, answer, "", now); err == nil {
		t.Error("an enrolment without an issuer")
	}
	if _, err := keys.NewEnrolment(expected, answer, keys.NoIssuer, time.Time{}); err == nil {
		t.Error("an enrolment without a time")
	}
	e, err := keys.NewEnrolment(expected, answer, keys.NoIssuer, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, codec := range map[string]struct {
		marshal   func(any) ([]byte, error)
		unmarshal func([]byte, any) error
	}{
		"JSON": {json.Marshal, json.Unmarshal},
		"TOML": {toml.Marshal, toml.Unmarshal},
	} {
		b, err := codec.marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(ak.Name().String())) {
			t.Errorf("%s: %s does not contain the name of the key in hexadecimal", name, b)
		}
		var back keys.Enrolment
		if err := codec.unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if !back.AK.Equal(e.AK) || !back.EK.Equal(e.EK) || back.EKIssuer != e.EKIssuer || !back.Enrolled.Equal(e.Enrolled) || back.Check() != nil {
			t.Errorf("%s: %+v became %+v", name, e, back)
		}
		if err := codec.unmarshal(bytes.Replace(b, []byte("000b"), []byte("000B"), 1), &back); err == nil {
			t.Errorf("%s: a name in upper case is read", name)
		}
	}
}
