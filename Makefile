# SPDX-License-Identifier: Apache-2.0
# Build, test and install agentd. `make help` lists the targets.

GO      ?= go
DESTDIR ?=
PREFIX  ?= /usr/local
SIGN    ?=
OUT     ?= bin
LDFLAGS ?= -buildid=

# Executables depend only on their sources and need no library: no cgo, no build folder,
# no build id, no state of the version control.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags="$(LDFLAGS)"

# A position-independent executable names the dynamic loader, and the loader obeys
# LD_PRELOAD. systemd runs agentctl as root in the environment of the unit that it
# measures, and the unit's user may be able to write that environment. So agentctl is
# linked without a loader. systemd runs no other program of ours this way.
# Engines start agentd-container as root, in their own environment. agentd-conformance runs
# on any Linux.
STATIC = $(filter agentctl agentd-container agentd-conformance,$(COMMANDS))
PIE    = $(filter-out agentctl agentd-container agentd-conformance,$(COMMANDS))

PRODUCTION = agentd agentd-gate agentctl agentd-container
COMMANDS   = $(PRODUCTION) agentd-sim agentd-conformance

.DEFAULT_GOAL := help
.PHONY: help build spire test demo check lint fuzz model bench soak install package test-package test-engines test-consumers verifier test-service load-service test-spire test-acme test-tunnel test-page test-vm test-vm-12 test-vm-containers test-vm-ima test-walks setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

build: ## build agentd, agentd-gate, agentctl, agentd-container, agentd-sim and agentd-conformance into bin/
	@mkdir -p $(OUT)
	$(if $(PIE),$(BUILD) -buildmode=pie -o $(OUT)/ $(PIE:%=./cmd/%))
	set -e; for p in $(STATIC); do $(BUILD) -buildmode=exe -o $(OUT)/ ./cmd/$$p; done

spire: ## build agentd-spire, the plugins of SPIRE, into bin/: a module of its own, with gRPC
	@mkdir -p $(OUT)
	cd spire && $(BUILD) -buildmode=exe -o $(abspath $(OUT))/ ./cmd/agentd-spire

demo: ## show everything on a simulated machine, in under half a minute
	@GO="$(GO)" OUT="$(OUT)" scripts/demo.sh

test: ## run every test; the last lines say what was skipped, why, and how many passed
	@GO="$(GO)" scripts/test.sh

check: ## check formatting, vet, staticcheck, the rules of the tree and quick tests
	@GO="$(GO)" scripts/check.sh

lint: ## what `make check` does without running a test
	@GO="$(GO)" scripts/check.sh sources

fuzz: ## fuzz every target with FUZZTIME inputs (default 200000x) each
	@GO="$(GO)" FUZZTIME="$${FUZZTIME:-200000x}" scripts/fuzz.sh

model: ## search the formal model of evidence (docs/model): who breaks which property, and what each commitment is for
	@$(GO) run ./docs/model

bench: ## measure start-up, memory and throughput
	@GO="$(GO)" scripts/bench.sh

soak: ## load the agent with all kinds of clients for SOAK (default 20m), as root, and check that it does not grow
	@SOAK="$${SOAK:-20m}" $(GO) test ./test/isolation -run '^TestSoak$$' -count=1 -v -timeout 0

install: ## install agentd, agentd-gate, agentctl and agentd-container below DESTDIR and PREFIX (agentd-sim is not for production)
	$(MAKE) build COMMANDS="$(PRODUCTION)"
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin
	install -m 0755 $(OUT)/agentctl $(DESTDIR)$(PREFIX)/bin/agentctl
	install -m 0755 $(OUT)/agentd $(DESTDIR)$(PREFIX)/sbin/agentd
	install -d $(DESTDIR)/usr/libexec/agentd
	install -m 0755 $(OUT)/agentd-gate $(DESTDIR)/usr/libexec/agentd/agentd-gate
	install -m 0755 $(OUT)/agentd-container $(DESTDIR)/usr/libexec/agentd/agentd-container
	for name in docker-runc docker-crun containerd-runc containerd-crun; do ln -sf agentd-container $(DESTDIR)/usr/libexec/agentd/$$name; done

package: ## build .deb, .rpm and a tarball into dist/; SIGN=KEY signs them with a key of gpg
	@GO="$(GO)" SIGN="$(SIGN)" packaging/build.sh dist

test-package: ## build the packages twice, compare, and check them with lintian, rpmlint and rpm
	@GO="$(GO)" packaging/test.sh

test-engines: ## measure a container of runc before it runs (root, control groups)
	@scripts/setup.sh engines
	@AGENTD_TEST_RUNC=$$(command -v runc) $(GO) test ./agent/internal/containers -run '^TestRealRuntime$$' -count=1 -v

test-consumers: ## give tokens to OPA, Vault's JWT auth and a JWT library (compiles them: a minute or more)
	@cd test/consumers && $(GO) vet ./... && $(GO) test -count=1 ./...

verifier: ## build agentd-verifier, the service for relying parties without Go, into bin/ (a module of its own: service/)
	@mkdir -p $(OUT)
	cd service && $(BUILD) -buildmode=pie -o $(abspath $(OUT))/ ./cmd/agentd-verifier

test-service: ## test agentd-verifier as processes on PostgreSQL and SQLite (compiles them at first: two minutes)
	@scripts/setup.sh tunnel
	@cd service && $(GO) vet ./... && $(GO) test -count=1 -timeout 15m ./...

load-service: ## load agentd-verifier: 20,000 appraisals of 200 clients, a worker killed and the database gone meanwhile
	@scripts/setup.sh tunnel
	@cd service && AGENTD_TEST_APPRAISALS=20000 $(GO) test ./test -run '^TestLoad$$' -count=1 -v -timeout 60m

test-spire: ## run the plugins in real servers and agents of SPIRE, on PostgreSQL (compiles SPIRE at first: half an hour)
	@scripts/setup.sh tunnel
	@GO="$(GO)" RUN="$(RUN)" scripts/test-spire.sh

test-acme: ## have a real step-ca issue certificates for keys in TPMs, and refuse what does not fit (compiles it at first: minutes)
	@GO="$(GO)" RUN="$(RUN)" scripts/test-acme.sh

test-tunnel: ## have curl and psql reach nginx and PostgreSQL over tunnels; all of Debian, taken out of their packages
	@scripts/setup.sh tunnel
	@AGENTD_TEST_SERVERS=1 $(GO) test ./test/tunnel/servers -count=1 -v -timeout 20m

test-page: ## open the pages of agentctl verify --html and of agentd-verifier in headless Chromium, with axe-core if npm is there; SCREENSHOTS=DIR keeps pictures
	@GO="$(GO)" SCREENSHOTS="$(SCREENSHOTS)" scripts/test-page.sh

test-vm: ## install the package in a virtual machine and check what the agent promises (root, QEMU)
	@GO="$(GO)" test/vm/run.sh

test-vm-12: ## the same on Debian 12, with an older systemd and kernel (make test-vm: Debian 13)
	@GO="$(GO)" SUITE=bookworm test/vm/run.sh

test-vm-containers: ## have podman and docker of Debian 13 run containers in a virtual machine, and check what is measured (root, QEMU)
	@GO="$(GO)" TEST=TestContainers test/vm/run.sh

test-vm-ima: ## have the kernel of a virtual machine measure what runs (IMA), and verify its list; SUITE=bookworm: in a Debian 12 (root, QEMU)
	@GO="$(GO)" TEST=TestIMA test/vm/run.sh

test-walks: ## type what the documents print into a virtual machine, as its readers would (root, QEMU)
	@GO="$(GO)" TEST=TestWalks test/vm/run.sh

setup: ## install the programs that the demo and the tests need (as root), or name them
	@scripts/setup.sh test
	@scripts/setup.sh check

clean: ## remove what was built
	rm -rf $(OUT) dist
