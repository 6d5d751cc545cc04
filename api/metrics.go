// SPDX-License-Identifier: Apache-2.0

package api

// Metrics is the answer of GET /v1/metrics: text, not JSON. If the header Accept of the request
// names application/openmetrics-text, the format is OpenMetrics 1.0, and otherwise that of
// Prometheus.
type Metrics string

// Values of the Content-Type of [Metrics].
const (
	MetricsType     = "text/plain; version=0.0.4; charset=utf-8"
	OpenMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)
