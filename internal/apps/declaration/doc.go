// SPDX-License-Identifier: Apache-2.0

// Package declaration reads what an administrator or a package says of an app: the systemd
// unit and user that it runs as, and the files that it is made of. An app is one TOML file
// in a directory apps.d; docs/apps.md specifies the format.
package declaration
