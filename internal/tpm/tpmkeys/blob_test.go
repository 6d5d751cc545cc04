// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

func TestParseBlob(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	good, err := ak.Blob().Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	for name, bad := range map[string]string{
		"empty":         "",
		"null":          "null",
		"cut":           text[:len(text)-1],
		"trailing":      text + "x",
		"other version": strings.Replace(text, "agentd/ak/1", "agentd/ak/2", 1),
		"unknown":       strings.Replace(text, `"type"`, `"extra":1,"type"`, 1),
		"case":          strings.Replace(text, `"auth"`, `"Auth"`, 1),
		"no auth":       text[:strings.Index(text, `,"auth"`)] + "}",
		"zero in auth":  text[:strings.Index(text, `"auth"`)] + `"auth":"` + strings.Repeat("A", 43) + `="}`,
		"short parent":  strings.Replace(text, `"parent":"000b`, `"parent":"0b`, 1),
		"upper parent":  strings.Replace(text, `"parent":"000b`, `"parent":"000B`, 1),
		"public area":   strings.Replace(text, `"public":"`, `"public":"AAAA`, 1),
		"large":         text + strings.Repeat(" ", 20000),
	} {
		if _, err := tpmkeys.ParseBlob([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A private part that was changed is the TPM's to find.
	i := strings.Index(text, `"private":"`) + 60
	other := "A"
	if text[i] == 'A' {
		other = "B"
	}
	blob, err := tpmkeys.ParseBlob([]byte(text[:i] + other + text[i+1:]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpmkeys.Provision(s, blob, none); !errors.Is(err, tpmkeys.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}
