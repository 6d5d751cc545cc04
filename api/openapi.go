// SPDX-License-Identifier: Apache-2.0

package api

import _ "embed"

//go:embed openapi.json
var openAPI string

// OpenAPI is the answer of GET /v1/openapi.json: the description of this API in OpenAPI 3.1.
// It is generated from the types of this package.
type OpenAPI struct{}

// String returns the document, as JSON.
func (OpenAPI) String() string { return openAPI }
