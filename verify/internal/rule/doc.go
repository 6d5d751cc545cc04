// SPDX-License-Identifier: Apache-2.0

// Package rule has the rules of a policy, a file for each subject: launch, machine, guest
// policy, and so on. A rule is written in one file, which contains
//
//   - its key and its value: a field of a struct with a toml tag. The struct is both the
//     text form and the Go form. The zero value of a field means that the key is absent;
//   - the text for docs/policy.md: a [Key];
//   - the checks of its value, and its conflicts with other rules;
//   - its words for people, and what a draft from a golden machine says about it;
//   - its checks of evidence: their definitions, and the judgement of a [Subject].
//
// Byte strings are lower-case hexadecimal in both forms, as in the claims of package verify.
package rule
