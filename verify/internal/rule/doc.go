// SPDX-License-Identifier: Apache-2.0

// Package rule has the rules of a policy, a file for each subject: launch, machine, guest
// policy, and so on. A rule is written in one file:
//
//   - Its key is a field of a struct, which is both the text form and the Go form. The tags
//     of the field give the key, the values that it may have, its default, and its words for
//     docs/policy.md. The zero value of a field means that the key is absent.
//   - The methods of the struct check other values, refuse conflicts with other rules, say
//     in words what the rule demands, write it for a golden machine, and judge a [Subject].
//   - A list next to the struct defines the checks of evidence, with their ids.
//
// Byte strings are lower-case hexadecimal in both forms, as in the claims of package verify.
package rule
