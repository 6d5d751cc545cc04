// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"strconv"
	"strings"
)

// maxExcerpt is how much of a text is quoted, in bytes.
const maxExcerpt = 64

// Excerpt is s quoted for an error or a report, cut where it is long, with a mark that
// it was: whoever wrote the document does not choose how much of it is shown.
func Excerpt[S ~string](s S) string {
	if len(s) <= maxExcerpt {
		return strconv.Quote(string(s))
	}
	return fmt.Sprintf("%q... (%d bytes)", strings.ToValidUTF8(string(s[:maxExcerpt]), ""), len(s))
}
