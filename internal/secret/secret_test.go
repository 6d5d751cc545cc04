// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const planted = "correct horse battery staple----"

func take(t *testing.T) *Secret {
	t.Helper()
	s, err := Take([]byte(planted))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Wipe)
	return s
}

// leaks reports whether text holds the planted bytes in a form that people print.
func leaks(text string) bool {
	decimal := strings.Trim(fmt.Sprint([]byte(planted)[:6]), "[]")
	for _, form := range []string{planted[:8], fmt.Sprintf("%x", planted[:8]), fmt.Sprintf("%X", planted[:8]), decimal,
		strings.ReplaceAll(decimal, " ", ", "), strings.ReplaceAll(decimal, " ", ","), fmt.Sprintf("%#v", []byte(planted)[:6])[7:40]} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// TestDoesNotPrint: case 75. Neither by itself nor inside of other things.
func TestDoesNotPrint(t *testing.T) {
	s := take(t)
	type holder struct {
		Public  *Secret
		private *Secret
	}
	values := map[string]any{"pointer": s, "holder": holder{s, s}, "pointer to holder": &holder{s, s},
		"slice": []*Secret{s}, "map": map[string]*Secret{"a": s}, "error": fmt.Errorf("failed: %v", s)}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%p"} {
			if text := fmt.Sprintf(verb, v); leaks(text) {
				t.Errorf("%s with %s: %s", name, verb, text)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		if b, err := json.Marshal(v); err == nil {
			log.Write(b)
		}
		if leaks(log.String()) {
			t.Errorf("%s: %s", name, &log)
		}
	}
	if _, err := json.Marshal(s); !errors.Is(err, ErrNoEncoding) {
		t.Errorf("JSON: %v", err)
	}
	if err := gob.NewEncoder(io.Discard).Encode(s); !errors.Is(err, ErrNoEncoding) {
		t.Errorf("gob: %v", err)
	}
	if !leaks(fmt.Sprint([]byte(planted))) || !leaks(fmt.Sprintf("%#v", []byte(planted))) {
		t.Error("the test sees nothing")
	}
}

func TestNotComparable(t *testing.T) {
	if reflect.TypeFor[Secret]().Comparable() {
		t.Error("== works on secrets")
	}
}

func TestTakeWipesItsArgument(t *testing.T) {
	b := []byte(planted)
	s, err := Take(b)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wipe()
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("the bytes are still there")
	}
	if s.Len() != len(b) {
		t.Errorf("%d bytes", s.Len())
	}
}

func TestWipe(t *testing.T) {
	s := take(t)
	s.Wipe()
	s.Wipe()
	(*Secret)(nil).Wipe()
	if err := s.Use(func([]byte) error { return nil }); !errors.Is(err, ErrWiped) {
		t.Errorf("used after it was wiped: %v", err)
	}
	if s.Equal(s) || s.Len() != 0 {
		t.Error("something is left")
	}
	if _, err := s.Clone(); !errors.Is(err, ErrWiped) {
		t.Errorf("cloned: %v", err)
	}
}

func TestEqualAndZero(t *testing.T) {
	a, b := take(t), take(t)
	zero, err := New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Wipe()
	short, err := Random(31)
	if err != nil {
		t.Fatal(err)
	}
	defer short.Wipe()
	if !a.Equal(b) || !a.Equal(a) || a.Equal(zero) || a.Equal(short) || a.IsZero() || !zero.IsZero() {
		t.Error("comparison is wrong")
	}
	if _, err := New(MaxSize + 1); err == nil {
		t.Error("any size is taken")
	}
}

// TestMemory: the pages are locked, left out of core dumps and absent in children.
func TestMemory(t *testing.T) {
	s := take(t)
	address := fmt.Sprintf("%x-", uintptr(unsafe.Pointer(&s.mem.pages[0])))
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skipf("needs /proc/self/smaps: %v", err)
	}
	_, rest, ok := strings.Cut("\n"+string(smaps), "\n"+strings.Repeat("0", max(0, 8-len(address)+1))+address)
	if !ok {
		t.Skip("the mapping shares an entry with others in /proc/self/smaps")
	}
	_, rest, ok = strings.Cut(rest, "VmFlags:")
	if !ok {
		t.Skip("this kernel shows no flags of mappings")
	}
	flags, _, _ := strings.Cut(rest, "\n")
	for flag, what := range map[string]string{"dd": "not in core dumps", "wf": "wiped in children", "lo": "locked"} {
		if flag == "lo" && !s.Locked() {
			continue // the limit of locked memory is zero here
		}
		if !strings.Contains(flags+" ", " "+flag+" ") {
			t.Errorf("not %s: flags are%s", what, flags)
		}
	}
}

// TestHideProcess runs in a child, since it cannot be undone.
func TestHideProcess(t *testing.T) {
	if os.Getenv("HIDE_PROCESS") != "" {
		if err := HideProcess(); err != nil {
			t.Fatal(err)
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		var limit unix.Rlimit
		if err2 := unix.Getrlimit(unix.RLIMIT_CORE, &limit); dumpable != 0 || limit.Cur != 0 || err != nil || err2 != nil {
			t.Errorf("dumpable %d, limit %d, %v, %v", dumpable, limit.Cur, err, err2)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHideProcess$")
	cmd.Env = append(os.Environ(), "HIDE_PROCESS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
