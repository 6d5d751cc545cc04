// SPDX-License-Identifier: Apache-2.0

// Package traces sends what a request did, and how long each part took, to a collector of
// OpenTelemetry (OTLP over HTTP). A trace has names of this program, policies and verdicts. Of what a
// client sent it has the id of the client's own trace, and nothing else.
package traces

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/service/internal/settings"
)

const (
	scope = "github.com/cvm-agentd/agentd/service"

	// maxQueue is how many parts of traces wait for the collector. Further ones are dropped, so that
	// no request waits for it.
	maxQueue = 4096
	timeout  = 10 * time.Second // of one message to the collector
)

// Traces sends traces. Nil sends none.
type Traces struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New returns nil if the settings name no collector. It does not connect. Without roots, the
// collector's certificate is of an authority of the system.
func New(s *settings.Tracing, roots *x509.CertPool, log *slog.Logger) (*Traces, error) {
	if s.Endpoint == "" {
		return nil, nil
	}
	options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(s.Endpoint), otlptracehttp.WithTimeout(timeout), otlptracehttp.WithMaxResponseSize(64 << 10)}
	if roots != nil {
		options = append(options, otlptracehttp.WithTLSClientConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}))
	}
	exporter, err := otlptracehttp.New(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("collector of traces: %w", err)
	}
	// What fails is told once a minute: each message would fail.
	once := rate.Sometimes{First: 1, Interval: time.Minute}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		once.Do(func() { log.Warn("traces are lost, since the collector does not take them", "error", err) })
	}))
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(maxQueue)),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(float64(s.Percent)/100))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "agentd-verifier"), attribute.String("service.version", version.Version))),
	)
	return &Traces{provider, provider.Tracer(scope)}, nil
}

// Close sends what waits, until the context ends.
func (t *Traces) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Request begins the trace of a request, and returns it with the request's new context. The trace is
// one of its own, with a link to that of the client: a client must not choose which requests are
// traced, nor write into traces of others.
func (t *Traces) Request(r *http.Request) (context.Context, *Part) {
	if t == nil {
		return r.Context(), nil
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	client := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header)))
	if client.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: client}))
	}
	ctx, span := t.tracer.Start(r.Context(), "request", options...)
	return ctx, &Part{span}
}

// Begin begins a part of the trace of the context, if that has one. What is attempted names it.
func Begin(ctx context.Context, attempt string) (context.Context, *Part) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, nil
	}
	ctx, span := parent.TracerProvider().Tracer(scope).Start(ctx, attempt)
	return ctx, &Part{span}
}

// Of returns the part that the context is in.
func Of(ctx context.Context) *Part {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return &Part{span}
	}
	return nil
}

// Part is a trace or a part of one. Nil is one that is not kept.
type Part struct{ span trace.Span }

// Name gives it another name.
func (p *Part) Name(name string) {
	if p != nil {
		p.span.SetName(name)
	}
}

// Say adds what became known. The value must be one of few, or one that an administrator chose.
func (p *Part) Say(key, value string) {
	if p != nil {
		p.span.SetAttributes(attribute.String(key, value))
	}
}

// Answered adds the status of an answer. Those from 500 on are errors of the service.
func (p *Part) Answered(status int) {
	if p == nil {
		return
	}
	p.span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= 500 {
		p.span.SetStatus(codes.Error, http.StatusText(status))
	}
}

// End ends it. Of an error it says that there was one: texts of errors can quote what clients sent.
func (p *Part) End(err error) {
	if p == nil {
		return
	}
	if err != nil {
		p.span.SetStatus(codes.Error, "")
	}
	p.span.End()
}
