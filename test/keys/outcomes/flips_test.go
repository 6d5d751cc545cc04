// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// victim is a secret whose blob, or whose app's root, is changed.
type victim struct {
	who  caller
	app  string
	name string // of the blob that is changed; empty: the app's root
}

// TestFlips: case 72. One bit of each field of a blob is flipped on the disk of a
// machine that is off, as it is and with every checksum made right again: what the
// app gets then. Each flip has a blob of its own, so that one machine will do.
func TestFlips(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	roots := map[string]string{"damaged": "ledger", "forged": "audit"} // apps whose root is changed
	must(t, b.install("audit"))
	victims := map[string]victim{}
	for _, how := range []string{"damaged", "forged"} {
		for i, name := range append([]string{"prelude"}, fieldNames...) {
			v := victim{who: billing, app: "billing", name: fmt.Sprintf("%s-%d", how, i)}
			if name == "digests" { // only the root of an app lists digests
				v = victim{who: caller{unit: roots[how] + ".service"}, app: roots[how]}
			}
			victims[fmt.Sprint(how, i)] = v
		}
	}
	for _, v := range victims {
		b.seal(v.who, v.secret(), "hunter2")
	}
	b.do(root, "", "key", "require-digest", "--app", "ledger", "--digest", strings.Repeat("01", 32))
	b.do(root, "", "key", "require-digest", "--app", "audit", "--digest", strings.Repeat("01", 32))
	b.off()
	changed := map[string][]byte{} // by file; found before any claims another name
	for key, v := range victims {
		file, content := b.file(v.app, v.name)
		var i int
		if n, _ := fmt.Sscanf(key, "damaged%d", &i); n == 1 {
			changed[file] = damage(t, content, i-1)
		} else if _, err := fmt.Sscanf(key, "forged%d", &i); err == nil {
			changed[file] = forge(t, content, i-1)
		}
	}
	if len(changed) != len(victims) {
		t.Fatalf("%d blobs for %d flips", len(changed), len(victims))
	}
	for file, content := range changed {
		b.write(file, content)
	}
	b.on()
	cell := func(key string) string {
		t.Helper()
		v := victims[key]
		got := b.unseal(v.who, v.secret(), associatedFile)
		if got.exit != closed || got.code == "" || len(got.out) > 0 {
			t.Errorf("%s: it printed %q, %v", key, got.out, got)
		}
		if got.field == "" {
			return "`" + got.code + "`"
		}
		return fmt.Sprintf("`%s` (%s)", got.code, got.field)
	}
	rows := []string{"| field | any one bit flipped | flipped, with the checksums made right |", "|---|---|---|"}
	slots := []string{" (snp+tpm)", " (recovery)"}
	for i, name := range append([]string{"prelude"}, fieldNames...) {
		if name == "wrapped-key" {
			name, slots = name+slots[0], slots[1:]
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |", name, cell(fmt.Sprint("damaged", i)), cell(fmt.Sprint("forged", i))))
	}
	checkDoc(t, "flips", strings.Join(rows, "\n")+"\n")
}

// secret is what the app asks for.
func (v victim) secret() string {
	if v.name == "" {
		return "any"
	}
	return v.name
}

// damage flips the last bit of the value of field i, or of the prelude's magic where i
// is negative.
func damage(t *testing.T, blob []byte, i int) []byte {
	t.Helper()
	out := bytes.Clone(blob)
	at := len(magic) - 1
	if i >= 0 {
		f := fields(t, blob)[i]
		at = f.start + 6 + len(f.value) - 1
	}
	out[at] ^= 1
	return out
}

// forge does the same and makes every checksum right. The bit of the prelude is the one
// that makes the version another.
func forge(t *testing.T, blob []byte, i int) []byte {
	t.Helper()
	list := slices.Clone(fields(t, blob))
	if i < 0 {
		return rebuilt(laterMagic, list)
	}
	list[i].value[len(list[i].value)-1] ^= 1
	return rebuilt(magic, list)
}
