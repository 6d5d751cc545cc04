// SPDX-License-Identifier: Apache-2.0

package api

// Metrics is the answer of GET /v1/metrics: text in the format of OpenMetrics 1.0, not JSON.
type Metrics string

// MetricsType is the Content-Type of [Metrics].
const MetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
