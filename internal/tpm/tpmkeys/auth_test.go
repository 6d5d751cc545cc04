// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// An authorization value contains no zero byte, and every other byte in every place.
func TestNewAuthIsZeroFree(t *testing.T) {
	var seen [authSize][256]int
	const rounds = 20000
	for range rounds {
		a, err := NewAuth(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if len(a) != authSize || bytes.IndexByte(a, 0) >= 0 {
			t.Fatalf("%x: %d bytes, or a zero among them", a, len(a))
		}
		for i, b := range a {
			seen[i][b]++
		}
	}
	for i := range seen {
		for b := 1; b < 256; b++ {
			// Expected are 78 each, standard deviation 9; 0 to 200 leaves no room for chance.
			if n := seen[i][b]; n == 0 || n > 200 {
				t.Errorf("byte %d is 0x%02x %d times in %d", i, b, n, rounds)
			}
		}
	}
}

func TestNewAuthSource(t *testing.T) {
	zeros := append(make([]byte, 64), bytes.Repeat([]byte{0, 7}, 64)...)
	a, err := NewAuth(bytes.NewReader(zeros))
	if err != nil || !bytes.Equal(a, bytes.Repeat([]byte{7}, authSize)) {
		t.Errorf("got %x, %v", a, err)
	}
	if _, err := NewAuth(bytes.NewReader(make([]byte, 100))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that ends: got %v", err)
	}
}

// case 75, the part of this package: secrets do not show in what is printed or logged.
func TestSecretsDoNotShow(t *testing.T) {
	secret := []byte("correct-horse")
	for _, v := range []any{
		Auths{Owner: secret, Endorsement: secret},
		&Auths{Owner: secret, Endorsement: secret},
		&Blob{auth: secret, private: secret},
	} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "k", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "k", v)
		if b, err := json.Marshal(struct{ V any }{v}); err == nil {
			out.Write(b)
		}
		for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprint(secret), fmt.Sprintf("%#v", secret), "Y29ycmVjdC1ob3JzZ"} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%T shows %q:\n%s", v, form, out.String())
			}
		}
	}
}
