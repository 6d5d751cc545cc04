// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStartTimeout: the drop-in gives a unit the time that it has without, and that of reading the
// application. It never gives less than the unit, or systemd for units that say nothing.
func TestStartTimeout(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		unit, manager string // settings
		bytes         uint64
		want          time.Duration // 0: no line
	}{
		{"", "", 0, 90 * time.Second},
		{"", "", 1, 91 * time.Second},
		{"", "", 16 << 20, 91 * time.Second},
		{"", "", 16<<20 + 1, 92 * time.Second},
		{"", "", gib, 154 * time.Second},
		{"", "", 16 * gib, (90 + 1024) * time.Second},
		{"TimeoutStartSec=10", "", gib, 154 * time.Second},
		{"TimeoutStartSec=5min", "", gib, 364 * time.Second},
		{"TimeoutSec=5min", "", gib, 364 * time.Second},
		{"TimeoutStartSec=5min\nTimeoutStartSec=", "", gib, 154 * time.Second},
		{"TimeoutStartSec=5min\nTimeoutStartSec=long", "", gib, 364 * time.Second},
		{"TimeoutStartSec=infinity", "", gib, 0},
		{"TimeoutStartSec=0", "", gib, 0},
		{"TimeoutSec=infinity", "", gib, 0},
		{"Type=oneshot", "", gib, 0},
		{"Type=oneshot\nTimeoutStartSec=5min", "", gib, 364 * time.Second},
		{"Type=notify", "", gib, 154 * time.Second},
		{"", "DefaultTimeoutStartSec=15s", gib, 154 * time.Second},
		{"", "DefaultTimeoutStartSec=3min", gib, 244 * time.Second},
		{"", "DefaultTimeoutStartSec=infinity", gib, 0},
		{"TimeoutStartSec=2min", "DefaultTimeoutStartSec=infinity", gib, 184 * time.Second},
		{"", "", 1<<64 - 1, (90 + 1<<30) * time.Second},
	} {
		for _, manager := range []string{"etc/systemd/system.conf", "usr/lib/systemd/system.conf.d/10-x.conf"} {
			root := tree(t, map[string]string{
				"usr/lib/systemd/system/billing.service": "[Service]\nExecStart=/bin/true\n" + c.unit + "\n",
				manager:                                  "[Manager]\n" + c.manager + "\n",
			})
			// The second time the drop-in of the first one is there.
			for range 2 {
				s, err := Load(root, "billing.service")
				if err != nil {
					t.Fatal(err)
				}
				got := s.StartTimeout(c.bytes)
				if got != c.want {
					t.Errorf("%q, %q, %d bytes: %v, want %v", c.unit, c.manager, c.bytes, got, c.want)
				}
				text := DropIn("billing", got, false)
				line := fmt.Sprintf("\nTimeoutStartSec=%d\n", c.want/time.Second)
				if strings.Contains(string(text), line) != (c.want > 0) || strings.Contains(string(text), "Timeout") != (c.want > 0) {
					t.Errorf("%q: the drop-in is\n%s", c.unit, text)
				}
				if err := Write(root, "billing.service", text); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestTimeSpans: a time span is what systemd takes it for.
func TestTimeSpans(t *testing.T) {
	wanted := map[string]time.Duration{
		"90": 90 * time.Second, "1min 30s": 90 * time.Second, "1min30s": 90 * time.Second, "1.5min": 90 * time.Second, "2 h": 2 * time.Hour, "500ms": time.Second / 2,
		"1d 2hours 3m": 26*time.Hour + 3*time.Minute, "3weeks": 21 * 24 * time.Hour, "7us": 7 * time.Microsecond, "55s500ms": 55*time.Second + time.Second/2,
		"1y": 31_557_600 * time.Second, "2M": 2 * 2_629_800 * time.Second,
	}
	usec := regexp.MustCompile(`(?m)^\s*[μµu]s: (\d+)$`)
	for text, want := range wanted {
		if got, ok := timeout(text); !ok || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, ok, want)
		}
		out, err := exec.Command("systemd-analyze", "timespan", text).Output()
		if err != nil {
			continue // not installed
		}
		if m := usec.FindSubmatch(out); m == nil || string(m[1]) != strconv.FormatInt(want.Microseconds(), 10) {
			t.Errorf("%q: systemd says\n%s", text, out)
		}
	}
	for _, text := range []string{"", "long", "5 parsecs", "s", "-5", "1.2.3", "5min x"} {
		if got, ok := timeout(text); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
	for _, text := range []string{"infinity", "0", "0s", "400y"} {
		if got, ok := timeout(text); !ok || got != unlimited {
			t.Errorf("%q is %v, %v", text, got, ok)
		}
	}
}
