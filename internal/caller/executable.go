// SPDX-License-Identifier: Apache-2.0

package caller

import (
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// deleted is what the kernel adds to the target of /proc/PID/exe when the name was removed.
const deleted = " (deleted)"

// Image returns the executable that link, the target of /proc/PID/exe, and links, the number
// of hard links of its file, describe. The name alone does not distinguish a file that is
// called "x (deleted)" from a replaced one: it counts as replaced unless something
// contradicts that, which does no harm.
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

// Printable returns path as a statement may contain it. A name that is not [text.Plain] is
// quoted as in Go, one that is too long is left out. A caller chooses the names of its files:
// it must neither mislead a reader of a screen nor fail the batch that it shares with other callers.
func Printable(path string) string {
	if !text.Plain(path) {
		path = strconv.QuoteToASCII(path)
	}
	if len(path) > evidence.MaxPath {
		return ""
	}
	return path
}
