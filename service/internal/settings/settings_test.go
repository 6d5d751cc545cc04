// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

const least = "[server]\nlisten = \"127.0.0.1:8443\"\n[database]\nfile = \"/v.db\"\n"

func withAdmin(more string) string {
	return least + "[admin]\nlisten = \"127.0.0.1:1\"\ncertificate = \"c\"\nkey = \"k\"\n" + more
}

func withOIDC(issuer, audience, claim, name string) string {
	return withAdmin(fmt.Sprintf("[admin.oidc]\nissuer = %q\naudience = %q\nclaim = %q\nnames = [%q]\n", issuer, audience, claim, name))
}

func TestParse(t *testing.T) {
	s, err := Parse([]byte(least))
	if err != nil {
		t.Fatal(err)
	}
	if s.Limits.Rate != 20 || s.Limits.AtOnce != 32 || s.Server.DrainSeconds != 5 || s.Tokens.LifetimeSeconds != 300 {
		t.Errorf("%+v", s)
	}
	if s, err := Parse([]byte(withOIDC("https://i.example", "a", "", "n"))); err != nil || s.Admin.OIDC.Claim != ClaimSubject {
		t.Errorf("administrators with tokens alone: %v", err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":            {least + "[limits]\nrates = 1\n", "rates"},
		"no database":            {"[server]\nlisten = \"127.0.0.1:1\"\n", "want either url"},
		"two databases":          {least + "url = \"postgres://h/d\"\n", "want either url"},
		"plain HTTP to others":   {strings.Replace(least, "127.0.0.1", "0.0.0.0", 1), "loopback"},
		"plain HTTP to a name":   {strings.Replace(least, "127.0.0.1", "localhost", 1), "loopback"},
		"half a pair":            {strings.Replace(least, "[database]", "key = \"k\"\n[database]", 1), "come together"},
		"clients without TLS":    {strings.Replace(least, "[database]", "client_ca = \"c\"\n[database]", 1), "need TLS"},
		"no port":                {strings.Replace(least, ":8443", "", 1), "with a port"},
		"a proxy":                {strings.Replace(least, "[database]", "trusted_proxies = [\"10.0.0.0/99\"]\n[database]", 1), "trusted_proxies[0]"},
		"administrators":         {least + "[admin]\nlisten = \"127.0.0.1:1\"\n", "over TLS"},
		"their authority":        {least + "[admin]\nlisten = \"127.0.0.1:1\"\ncertificate = \"c\"\nkey = \"k\"\n", "client_ca"},
		"their names":            {least + "[admin]\nlisten = \"127.0.0.1:1\"\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n", "names"},
		"a name like a token's":  {withAdmin("client_ca = \"a\"\nnames = [\"oidc:eve\"]\n"), "admin.names[0]"},
		"no issuer":              {withAdmin("client_ca = \"a\"\nnames = [\"a\"]\n[admin.oidc]\naudience = \"a\"\n"), "oidc.issuer"},
		"an issuer of http":      {withOIDC("http://i.example", "a", "sub", "n"), "oidc.issuer"},
		"an issuer's query":      {withOIDC("https://i.example/?a=b", "a", "sub", "n"), "oidc.issuer"},
		"no audience":            {withOIDC("https://i.example", "", "sub", "n"), "oidc.audience"},
		"a claim of users":       {withOIDC("https://i.example", "a", "name", "n"), "oidc.claim"},
		"all users":              {strings.Replace(withOIDC("https://i.example", "a", "sub", "n"), "names = [\"n\"]", "", 1), "oidc.names"},
		"traces for all to read": {least + "[tracing]\nendpoint = \"http://c.example:4318/v1/traces\"\n", "use https"},
		"traces to a name":       {least + "[tracing]\nendpoint = \"c.example:4318\"\n", "with port and path"},
		"most of all requests":   {least + "[tracing]\npercent = 101\n", "tracing.percent"},
		"a threshold of none":    {least + "[policies]\nthreshold = 2\n", "policies.keys"},
		"half an authority":      {least + "[authority]\ncertificate = \"c\"\npolicies = [\"default\"]\n", "come together"},
		"an authority for all":   {least + "[authority]\ncertificate = \"c\"\nkey = \"k\"\n", "authority.policies"},
		"policies without one":   {least + "[authority]\npolicies = [\"default\"]\n", "authority.certificate"},
		"a policy of its own":    {least + "[authority]\ncertificate = \"c\"\nkey = \"k\"\npolicies = [\"web\", \"p/web\"]\n", "authority.policies[1]"},
		"a name of machines":     {least + "[authority]\nidentifier = \"name\"\n", "authority.identifier"},
		"a rate of zero":         {least + "[limits]\nrate = 0\n", "limits.rate"},
		"a body of gigabytes":    {least + "[limits]\nbody = 5000000000\n", "limits.body"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestNumbersHaveBounds: each number is refused with its key if it is below or above what it may be.
func TestNumbersHaveBounds(t *testing.T) {
	for table := range reflect.TypeFor[Settings]().Fields() {
		if table.Type.Kind() != reflect.Struct {
			continue
		}
		for f := range table.Type.Fields() {
			if f.Type.Kind() != reflect.Int {
				continue
			}
			for _, n := range []int{-1, 1 << 60} {
				name, key := table.Tag.Get("toml"), f.Tag.Get("toml")
				text := strings.Replace(least+"[limits]\n[tokens]\n[authority]\n[tracing]\n[policies]\n", "["+name+"]\n", fmt.Sprintf("[%s]\n%s = %d\n", name, key, n), 1)
				if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), name+"."+key) {
					t.Errorf("%s.%s = %d: %v", name, key, n, err)
				}
			}
		}
	}
}

// TestPageHasEachKey: the configuration that docs/verifier-service.md shows is one, and its tables name
// each key.
func TestPageHasEachKey(t *testing.T) {
	b, err := os.ReadFile("../../../docs/verifier-service.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	_, rest, _ := strings.Cut(page, "```toml\n")
	example, _, ok := strings.Cut(rest, "```")
	if s, err := Parse([]byte(example)); err != nil || !ok || s.Admin.Certificate != s.Server.Certificate {
		t.Errorf("the example: %v", err)
	}
	for _, key := range keys() {
		if !strings.Contains(page, "`"+key+"`") {
			t.Errorf("the page does not name `%s`", key)
		}
	}
}

// keys are those of Settings; of [limits] without the name of the table.
func keys() []string { return keysOf(reflect.TypeFor[Settings](), "") }

func keysOf(table reflect.Type, prefix string) (all []string) {
	for f := range table.Fields() {
		name := f.Tag.Get("toml")
		switch {
		case name == "-":
		case f.Type.Kind() == reflect.Struct && name == "limits":
			all = append(all, keysOf(f.Type, "")...)
		case f.Type.Kind() == reflect.Struct:
			all = append(all, keysOf(f.Type, prefix+name+".")...)
		default:
			all = append(all, prefix+name)
		}
	}
	return all
}
