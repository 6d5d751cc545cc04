// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"errors"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// TestUnboundKeyIsNotCertified: no appraisal of evidence is both accepted and without a binding. If one
// were, nothing would say of which machine the key is.
func TestUnboundKeyIsNotCertified(t *testing.T) {
	ak, err := keys.ParsePublic(evidencetest.New().AK.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		ak *keys.Public
		a  verify.Appraisal
	}{
		"no binding":      {ak, verify.Appraisal{Verdict: verify.Pass, Binding: verify.BindingNone}},
		"unknown binding": {ak, verify.Appraisal{Verdict: verify.Pass, Binding: "new"}},
		"refused":         {ak, verify.Appraisal{Verdict: verify.Fail, Binding: verify.BindingSVSM}},
		"no key":          {nil, verify.Appraisal{Verdict: verify.Pass, Binding: verify.BindingSVSM}},
	} {
		c, err := new(Authority).certify(t.Context(), x.ak, &x.a, time.Now())
		if _, is := errors.AsType[errNotCertified](err); c != nil || !is {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}
