// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/cvm-agentd/agentd/internal/text"
)

// specification is the text of docs/evidence.md.
func specification(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../docs/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// grouped is n as the specification writes it: 65,536.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// row is the row of a table that begins with the given members.
func row(text, members string) string {
	_, rest, _ := strings.Cut(text, "\n| "+members+" |")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// TestDocumentedSizes compares the sizes of the specification with the caps of this package.
func TestDocumentedSizes(t *testing.T) {
	text := specification(t)
	for _, x := range []struct {
		members string
		low     int // -1 if the text need not name it
		high    int
	}{
		{"`statement`", 1, MaxStatement},
		{"`inclusion.path`", 0, MaxProof},
		{"`report.bytes`", 1, MaxReport},
		{"`ak`", 1, MaxPublicArea},
		{"`firmwareLog`", -1, MaxFirmwareLog},
		{"`certificates`", 0, MaxCertificates},
		{"`certificates`", 1, MaxCertificate},
		{"`tree.root`, `tree.size`", 1, MaxBatch},
		{"`quote.attest`", 1, MaxQuote},
		{"`quote.signature`", 1, MaxQuote},
		{"`pcrs`", 1, MaxBanks},
		{"`pcrs[].pcrs`", 1, MaxPCRs},
		{"`nonce`", MinNonce, MaxNonce},
		{"`audience`", -1, MaxAudience},
		{"`userData`", -1, MaxUserData},
		{"`publicKey`", -1, MaxPublicKey},
		{"`keyProof`", -1, MaxKeyProof},
		{"`salt`", MinSalt, MaxSalt},
		{"`caller.unit`", -1, MaxName},
		{"`caller.app`", -1, MaxName},
		{"`….executable.path`", -1, MaxPath},
		{"`records`", -1, MaxLog},
		{"`entries`", -1, MaxIMA},
	} {
		want := "up to " + grouped(x.high)
		if x.low >= 0 {
			want = fmt.Sprintf("%d to %s", x.low, grouped(x.high))
		}
		if got := row(text, x.members); !strings.Contains(got, want+" ") && !strings.Contains(got, want+",") {
			t.Errorf("the row of %s says %q, want %q in it", x.members, got, want)
		}
	}
	if want := fmt.Sprintf("at most %d MiB", MaxEvidence>>20); !strings.Contains(text, want) {
		t.Errorf("the specification does not say %q of a document", want)
	}
}

// TestDocumentedMembers checks that the specification names every member that is read.
func TestDocumentedMembers(t *testing.T) {
	text := specification(t)
	var walk func(what string, typ reflect.Type)
	n := 0
	walk = func(what string, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if n++; !regexp.MustCompile("[`.]" + name + "[`.]").MatchString(text) {
				t.Errorf("%s.%s is not in the specification", what, name)
			}
			walk(what+"."+name, f.Type)
		}
	}
	walk("evidence", reflect.TypeFor[Evidence]())
	walk("statement", reflect.TypeFor[Statement]())
	if n < 40 {
		t.Fatalf("only %d members were looked for", n)
	}
}

// TestDocumentedCharacters compares the list of characters that no text may contain with the rule.
func TestDocumentedCharacters(t *testing.T) {
	_, list, ok := strings.Cut(specification(t), "\n    U+0000")
	list, _, ok2 := strings.Cut("U+0000"+list, "\n\n")
	if !ok || !ok2 {
		t.Fatal("the specification has no list of characters")
	}
	got, want := strings.Fields(list), []string(nil)
	for low := rune(0); low <= unicode.MaxRune; low++ {
		high := low
		for high <= unicode.MaxRune && !text.MayShow(high) {
			high++
		}
		switch high - low {
		case 0:
		case 1:
			want = append(want, fmt.Sprintf("%U", low))
		default:
			want = append(want, fmt.Sprintf("%U-%04X", low, high-1))
		}
		low = high
	}
	if !slices.Equal(got, want) {
		t.Errorf("the specification lists\n%v, the table\n%v", got, want)
	}
}
