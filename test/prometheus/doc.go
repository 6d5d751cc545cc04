// SPDX-License-Identifier: Apache-2.0

// Package prometheus checks metrics and example files with the libraries that promtool consists
// of: promlint (check metrics), rulefmt (check rules) and config (check config). If there is a
// promtool, it checks them too. This is a module of its own, so that what those depend on stays out
// of ours.
package prometheus
