package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// TestAKOrigin: what the appraisal says of the attestation key, by what the policy knows.
func TestAKOrigin(t *testing.T) {
	document := evidencetest.New().Encode(t)
	const issuers = "ek_issuers = [\"CN=TPM root\"]\n"
	for _, c := range []struct {
		name, root, tables string
		want               AKOrigin
	}{
		{"nothing known", "", "", AKNone},
		{"name", "ak_names = [\"000b" + recipeAK() + "\"]", "", AKEnrolled},
		{"record without a certificate", `ak_origin = "enrolled"`, enrolment(recipeAK(), "none"), AKEnrolled},
		{"record, issuer not trusted", "", enrolment(recipeAK(), "CN=TPM root"), AKEnrolled},
		{"record, issuer trusted", issuers + `ak_origin = "certified"`, enrolment(recipeAK(), "CN=TPM root"), AKCertified},
		{"certified is more than enrolled", issuers + `ak_origin = "enrolled"`, enrolment(recipeAK(), "CN=TPM root"), AKCertified},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(c.root, c.tables))
			a, err := Evidence(document, o)
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdict != Pass || a.AKOrigin != c.want {
				t.Errorf("%s, AK %s, want %s\n%s", a.Verdict, a.AKOrigin, c.want, explain(a))
			}
		})
	}
}
