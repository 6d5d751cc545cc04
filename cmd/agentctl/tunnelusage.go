// SPDX-License-Identifier: Apache-2.0

package main

const tunnelUsage = `Usage: agentctl tunnel COMMAND [flags]

Carry connections of other programs through attested TLS (docs/tunnel.md).

  serve     inside the machine: accept attested connections for a service
  connect   outside: verify the machine, and accept programs for it

Examples:
  agentctl tunnel serve --listen :8443 --to 127.0.0.1:8080
  agentctl tunnel connect --policy policy.toml --listen 127.0.0.1:9000 --to host:8443
`

const tunnelServeUsage = `Usage: agentctl tunnel serve --to ADDRESS [--listen ADDRESS] [flags]
       agentctl tunnel serve --config FILE

Accept attested connections for a service that knows nothing of attestation. Evidence
of this machine is shown in each. It runs until it is stopped. SIGHUP has it read its
files again; open connections stay, but for --close-open. docs/tunnel.md says what a
client learns about the service: nothing, unless the policy names more than the tunnel.

  --config FILE          read the settings from a TOML file: a key for each flag, with _ in
                         the place of -. Both may not give the same one
  --listen ADDRESS       HOST:PORT, :PORT or unix:PATH; leave it out under a socket unit of
                         systemd
  --to ADDRESS           the service: HOST:PORT or unix:PATH
  --certificate FILE     certificate of this end, with its chain, PEM. Without it, this end
                         makes a key in memory, for clients with --any-certificate
  --key FILE             its private key, PEM. A file that all users can read is refused
  --attest               show evidence of this machine (default: true)
  --audiences NAME       names of verifiers to show evidence to; may be repeated
                         (default: any)
  --anchored-only        refuse clients that ask for a report of their own
  --application NAME     protocol of the application, if the other end names it too
  --proxy-protocol VERSION
                         tell the service who connected, and the verdict, by a header of
                         PROXY protocol; v2 is the only version. The service must expect it
  --well-known           answer clients that do not speak agentd/1: with evidence at
                         /.well-known/agentd/evidence, which does not survive relay, and
                         nothing else

Clients are verified if there is a policy:

  --policy FILE          what evidence of clients is acceptable (docs/policy.md)
  --audience NAME        your name; evidence for another audience is refused
  --roots FILE           authorities of clients' certificates, PEM: each client shows one
                         of them, also without a policy
` + tunnelVerifyUsage + tunnelLimitsUsage + `
Exit codes: 0 stopped by itself, 1 misuse or failure.

Examples:
  agentctl tunnel serve --listen :8443 --to 127.0.0.1:8080
  agentctl tunnel serve --listen :5433 --to unix:/run/postgresql/.s.PGSQL.5432 \
      --certificate tls.pem --key tls.key
  agentctl tunnel serve --config /etc/agentd/tunnels/web.toml
`

const tunnelConnectUsage = `Usage: agentctl tunnel connect --policy FILE --to HOST:PORT [--listen ADDRESS] [flags]
       agentctl tunnel connect --config FILE

Carry connections of programs to a machine whose evidence is verified. That is done in
each connection, before a byte of the program leaves. If the evidence is refused, the
program's connection is reset. It runs until it is stopped. SIGHUP has it read its files
again; open connections stay, but for --close-open.

  --config FILE          read the settings from a TOML file: a key for each flag, with _ in
                         the place of -. Both may not give the same one
  --listen ADDRESS       HOST:PORT, :PORT or unix:PATH; leave it out under a socket unit of
                         systemd. Every program that reaches it can use the tunnel
  --to HOST:PORT         the other end, "agentctl tunnel serve"
  --policy FILE          what evidence is acceptable (docs/policy.md); required
  --audience NAME        your name; evidence for another audience is refused
  --roots FILE           authorities of the other end's certificate, PEM (default: those of
                         the system)
  --server-name NAME     name that the certificate must have (default: the host of --to)
  --any-certificate      do not verify the certificate: evidence alone says who the other
                         end is, which is one of the machines that the policy accepts
  --application NAME     protocol of the application, if the other end names it too
` + tunnelVerifyUsage + `
If the other end verifies clients:

  --attest               show evidence of this machine if the other end asks
  --audiences NAME       names of verifiers to show evidence to; may be repeated
                         (default: any)
  --anchored-only        refuse an end that asks for a report of its own
  --certificate FILE     certificate of this end, with its chain, PEM. Without it, an end
                         that attests makes a key in memory
  --key FILE             its private key, PEM. A file that all users can read is refused
` + tunnelLimitsUsage + `
Exit codes: 0 stopped by itself, 1 misuse or failure.

Examples:
  agentctl tunnel connect --policy policy.toml --listen 127.0.0.1:9000 --to host:8443
  agentctl tunnel connect --config /etc/agentd/tunnels/billing.toml
`

const tunnelVerifyUsage = `  --policy-keys FILE     public keys, PEM, one of which must have signed the policy, also at
                         a reload: a policy without a signature is refused. When the
                         policy expires, no connection is accepted any more
  --policy-threshold N   how many of these keys must have signed (default 1)
  --policy-number N      refuse a signed policy with a smaller number: an older one
  --fresh                ask for a report of its own in each connection. A host makes one
                         every few seconds only
  --warn                 let evidence pass that is genuine, and not acceptable: for the
                         time before a policy is enforced
  --close-open           when a new policy refuses an open connection, or that in force
                         expires, close it
  --continue TIME        let a connection rest on evidence that the same process showed so
                         long ago at most, up to 1h: it costs little more than TLS. What
                         changed in the machine since then is not seen (default: never)
  --collateral DIR       certificates and revocation lists of all machines, from "agentctl
                         collateral fetch"
  --enrolments FILE|DIR  enrolments apart from the policy, of "agentctl enroll add". They
                         count if it says outside_enrolments = "approved"
  --crl FILE             a revocation list of the root, DER; may be repeated
  --evidence-certificate FILE
                         further certificates for evidence, PEM or DER; may be repeated
  --accept-any-program-of-the-machine
                         accept a policy without caller.unit and caller.container. An
                         attacker with a copy of the certificate's key then needs any
                         program on an accepted machine
  --trust-test-root-that-vouches-for-no-hardware FILE
                         trust this root instead of AMD's: for agentd-sim
`

const tunnelLimitsUsage = `
Limits:

  --timeout TIME         for a connection to be attested (default: 30s). A fresh report can
                         take longer
  --connect-timeout TIME
                         for the connection to --to (default: 10s)
  --idle-timeout TIME    without a byte in either direction (default: 1h)
  --drain-timeout TIME   for open connections, when it is told to stop (default: 30s)
  --max-connections NUMBER
                         connections at once (default: 4096)
  --max-connections-per-address NUMBER
                         of these, from one address of IPv4, or one network of 64 bits of
                         IPv6 (default: 1024)

What it says:

  --access-log FILE      a line of JSON for each connection that ended; - is standard
                         output. SIGHUP opens the file anew
  --metrics ADDRESS      give figures for monitoring at /metrics: HOST:PORT of this machine
                         alone, or unix:PATH
`
