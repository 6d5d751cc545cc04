// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cvm-agentd/agentd/evidence"
)

// deleted is what the kernel adds to the target of /proc/PID/exe when the name is gone.
const deleted = " (deleted)"

// Image is the executable that link, the target of /proc/PID/exe, and links, the
// number of hard links of the file behind it, tell of. A file that is called
// "x (deleted)" cannot be told from a replaced one by its name alone; it passes for
// replaced where nothing contradicts, which costs nobody anything.
func Image(link string, links uint64) evidence.Executable {
	x := evidence.Executable{State: evidence.ExecutableFile}
	path, gone := strings.CutSuffix(link, deleted)
	switch {
	case strings.HasPrefix(path, "/memfd:") && links == 0:
		x.State = evidence.ExecutableMemfd
	case gone || links == 0:
		x.State = evidence.ExecutableReplaced
	default:
		path = link
	}
	x.Path = Printable(path)
	return x
}

// Printable is path as a statement may carry it: a name that holds invalid UTF-8 or what
// [unicode.IsPrint] does not print (control characters, C1 among them, marks that turn
// the direction of text, spaces but U+0020) is quoted as in Go, one that is too long is left out. A caller
// chooses the names of its files, and must neither fool a reader's screen nor fail the
// batch that it shares with others.
func Printable(path string) string {
	if !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		path = strconv.QuoteToASCII(path)
	}
	if len(path) > evidence.MaxPath {
		return ""
	}
	return path
}
