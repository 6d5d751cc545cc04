// SPDX-License-Identifier: Apache-2.0

// Package openapi looks at the OpenAPI documents of this project as linters do.
package openapi
