// SPDX-License-Identifier: Apache-2.0

// Package browser opens the pages of "agentctl verify --html" and of agentd-verifier in headless
// Chromium: in both themes, at the widths of a desk and of a phone, and on paper. Chromium must report
// nothing and load nothing, and axe-core must find no barrier. scripts/test-page.sh gets both
// programs, and keeps screenshots.
package browser
