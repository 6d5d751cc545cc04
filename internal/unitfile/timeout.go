// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// readingSpeed is how many bytes of an application the agent is taken to read in a second, in a
// start that has only just enough time. The slowest disks that clouds give to small machines read
// some 100 MiB/s; at boot, other applications and services are read from them at the same time,
// with files that are in no cache. Hashing is faster than that.
const readingSpeed = 16 << 20

// systemdStart is how long systemd lets a service start if no file says otherwise
// (DefaultTimeoutStartSec= in systemd-system.conf(5)).
const systemdStart = 90 * time.Second

// unlimited is a timeout that never ends a start.
const unlimited time.Duration = math.MaxInt64

// StartTimeout returns how long the unit may take to start if the agent reads so many bytes
// before: the time that it has without, and that of reading. It returns 0 if its start has no limit,
// which a measurement does not change. The drop-in of this package does not count as a setting of
// the unit.
func (s *Service) StartTimeout(bytes uint64) time.Duration {
	own := s.start
	switch {
	case own == 0 && s.oneshot:
		return 0
	case own == 0:
		own = s.usual
	}
	if own == unlimited {
		return 0
	}
	seconds := bytes / readingSpeed
	if bytes%readingSpeed > 0 {
		seconds++
	}
	return max(own, systemdStart) + time.Duration(min(seconds, 1<<30))*time.Second
}

// usualStart returns the start timeout of units that set none: the longest that a configuration of
// systemd below root sets.
func usualStart(root string) time.Duration {
	usual := systemdStart
	var files []string
	for _, dir := range []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"} {
		main := filepath.Join(dir, "system.conf")
		files = append(files, main)
		dropIns, _ := os.ReadDir(filepath.Join(root, main+".d")) // a folder that is not there has none
		for _, f := range dropIns {
			if strings.HasSuffix(f.Name(), ".conf") {
				files = append(files, filepath.Join(main+".d", f.Name()))
			}
		}
	}
	for _, f := range files {
		b, err := readFile(root, f)
		if err != nil {
			continue // systemd passes over it too
		}
		_ = settings(string(b), "[Manager]", func(key, value string) error { // never fails
			if d, ok := timeout(value); ok && key == "DefaultTimeoutStartSec" {
				usual = max(usual, d)
			}
			return nil
		})
	}
	return usual
}

// timeout reads a time span of systemd.time(7), with seconds as its unit, as a timeout: zero and
// infinity mean that there is none.
func timeout(s string) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if s == "infinity" {
		return unlimited, true
	}
	var sum float64
	for rest := s; ; {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			break
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if end < 0 {
			end = len(rest)
		}
		number, err := strconv.ParseFloat(rest[:end], 64)
		if err != nil {
			return 0, false
		}
		rest = strings.TrimLeft(rest[end:], " \t")
		end = strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' || r == ' ' || r == '\t' || r == '.' })
		if end < 0 {
			end = len(rest)
		}
		unit, known := spans[rest[:end]]
		if !known {
			return 0, false
		}
		sum += number * float64(unit)
		rest = rest[end:]
	}
	switch {
	case s == "":
		return 0, false
	case sum == 0 || sum >= float64(unlimited):
		return unlimited, true
	}
	return time.Duration(sum), true
}

// spans are the units of systemd.time(7).
var spans = func() map[string]time.Duration {
	const day = 24 * time.Hour
	out := map[string]time.Duration{}
	for names, unit := range map[string]time.Duration{
		"usec us µs μs": time.Microsecond, "msec ms": time.Millisecond, "seconds second sec s": time.Second,
		"minutes minute min m": time.Minute, "hours hour hr h": time.Hour, "days day d": day, "weeks week w": 7 * day,
		"months month M": 2_629_800 * time.Second, "years year y": 31_557_600 * time.Second,
	} {
		for _, name := range strings.Fields(names) {
			out[name] = unit
		}
	}
	out[""] = time.Second
	return out
}()
