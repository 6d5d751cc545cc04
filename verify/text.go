// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"strings"
)

// maxText is how much of one text an appraisal holds, in bytes: more than any reason
// that a log may give. What is longer was written to be long.
const maxText = 2 << 10

// cutText cuts a text that may hold some of the document, with a mark that it was.
func cutText(s string) string {
	if len(s) <= maxText {
		return s
	}
	return fmt.Sprintf("%s... (cut, %d bytes)", strings.ToValidUTF8(s[:maxText], ""), len(s))
}
