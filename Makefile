# fieldpost: everything a person or a build machine does here, each by one name.
# `make help` lists it. Every variable may be set on the command line.

GO      ?= go
BIN     ?= bin
OUT     ?= $(BIN)/fieldpost
PREFIX  ?= /usr
DESTDIR ?=

# What `make install` installs; a cross-built one may be given instead.
BINARY  ?= $(OUT)

# For how long `make demo` runs.
DURATION ?= 20s

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUILD_TIME ?= $(shell TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || date -u +%Y-%m-%dT%H:%M:%SZ)

# A build is the same wherever it is made: no cgo, no paths, no time of day.
LDFLAGS  ?= -s -w -X main.version=$(VERSION) -X fieldpost/daemon/uplink.BuildTime=$(BUILD_TIME)
GO_BUILD  = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"

STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.7.0
SHELLCHECK  ?= shellcheck
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0

TEST_FLAGS   ?=
TEST_TIMEOUT ?= 15m
BENCH        ?= .

# The boards fieldpost is made for, and the two systems people look at it on.
CROSS := linux-armv6 linux-armv7 linux-arm64 linux-riscv64 linux-amd64 windows-amd64 darwin-arm64
# fieldpost-provision runs on a desk rather than on a board, so one binary for all of 32-bit ARM will do.
CROSS_PROVISION := $(filter-out linux-armv7,$(CROSS))

# What `make ci` does, in this order. The tests come last, so that their
# summary is what one sees.
CI_STEPS ?= lint build cross test-32 package-test image-test demo page-test chaos clock-steps vm-test vm-bookworm vm-pi test

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.PHONY: hw-test hw-trial help build provision demo docs test test-32 race lint lint-go lint-shell cross chaos clock-steps vuln bench bench-peers vm-test vm-bookworm vm-pi vm-bench release package-test image image-test ci install clean FORCE

help: ## list what can be made
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  %-12s %s\n' "$$name" "$$text"; done

build: $(OUT) ## build bin/fieldpost for this machine

# The go command knows better than make what has changed.
$(OUT): FORCE
	$(GO_BUILD) -o $@ ./cmd/fieldpost

FORCE:

provision: ## build bin/fieldpost-provision, which registers a board in AWS IoT Core
	$(GO_BUILD) -o $(BIN)/fieldpost-provision ./cmd/fieldpost-provision

demo: build ## the whole thing on this machine, no hardware, no account; ends by itself after DURATION
	$(OUT) demo --for $(DURATION)

# The race detector needs a C compiler.
RACE := $(shell test "$$($(GO) env CGO_ENABLED)" != 0 && command -v "$$($(GO) env CC)" >/dev/null 2>&1 && echo -race)
# Timers of a testing/synctest bubble use one context of the race detector, which
# two threads may enter at once; the detector then crashes now and then (Go 1.26,
# golang/go issue 78156). One processor for Go finds the same races.
RACE_TEST := $(RACE) $(RACE:-race=-cpu 1)

test: ## all tests, with the race detector where there is a C compiler
	@test -n "$(RACE)" || echo "no C compiler here: testing WITHOUT the race detector"
	$(GO) test -tags rehearsal -run 'Rehearse|MayPanic' ./daemon/health ./daemon
	$(GO) test $(RACE_TEST) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

# The packages that count, scale and store numbers. On 32-bit ARM an int has 32 bits; on an
# amd64 machine the same is tried with GOARCH=386.
NUMBERS := $(addprefix ./daemon/,api clock config durable history journal message metrics records spool totals wake) \
	$(addprefix ./sensors/,board filter option)

test-32: ## the tests of the packages that hold numbers, with an int of 32 bits; on Linux on amd64
	@if test "$$($(GO) env GOHOSTOS)-$$($(GO) env GOHOSTARCH)" = linux-amd64; then \
		set -x; CGO_ENABLED=0 GOARCH=386 $(GO) test -short $(TEST_FLAGS) $(NUMBERS); \
	else echo "not Linux on amd64: an int of 32 bits is NOT tested"; fi

# Where root may, the spool of `make chaos` is on a small disk of its own, which
# is filled and made read-only; else that is left out, and said. The daemon is
# bin/fieldpost, built once more with the tag chaos: on a simulated board.
CHAOS_NS := $(shell test "$$(id -u)" = 0 && unshare -m true 2>/dev/null && echo unshare -m env FIELDPOST_CHAOS_MOUNT=1)

chaos: export FAULTS ?= 200
chaos: export SEED ?=
chaos: export ONLY ?=
chaos: export CHAOS_BUILD ?= $(RACE)
chaos: ## FAULTS=n SEED=n ONLY=words: random faults in the daemon, its network, broker and disk, with all messages and orders accounted for
	$(CHAOS_NS) $(GO) test -tags chaos -count 1 -v -run '^TestChaos$$' -parallel 24 -timeout $$(($(FAULTS) * 10 + 600))s ./daemon/chaos

clock-steps: ## the tests of all that waits or repeats, while the wall clock of their processes jumps
	$(GO) test -tags steps -count 1 -v -run '^TestClockStepMovesNoSchedule$$' ./daemon

bench-peers: ## what a reading costs beside a bare Go loop, and collectd and Telegraf where they are installed; needs mosquitto
	$(GO) test -run '^$$' -bench '^BenchmarkPeers$$' -benchtime 1x -timeout 30m ./daemon/footprint

bench: cross-linux-armv6 ## the benchmarks, each a line with what is aimed at, the size of the binary for the smallest board, and vm-bench as root
	$(GO) test -run '^$$' -bench '$(BENCH)' -skip '^BenchmarkPeers$$' -timeout 30m ./...
	@ls -l $(BIN)/cross/fieldpost-linux-armv6
	@if test "$$(id -u)" = 0; then $(MAKE) --no-print-directory vm-bench; else echo "not root: what it costs on ARM is NOT measured"; fi

vm-bench: cross-linux-arm64 ## memory, CPU and writes of the installed unit on the emulated ARM machine, at rest and in an accelerated hour (root)
	deploy/vm/test.sh -c $(BIN)/cross/fieldpost-linux-arm64

# A test that makes a file for people is named TestDocs...; see daemon/goldentest.
docs: ## write the files and the sections of documents that are made from the code; `make test` fails when one is out of date
	$(GO) test -run '^TestDocs' $$($(GO) list -f '{{range .TestImports}}{{.}} {{end}}{{range .XTestImports}}{{.}} {{end}}{{"\t"}}{{.ImportPath}}' ./... | \
		sed -n 's|.*fieldpost/daemon/goldentest .*\t||p') -update

# axe-core, which looks at the page as who cannot see it would, is fetched once.
AXE := axe-core-4.10.3
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/fieldpost
PICTURES ?= $(BIN)/pictures

page-test: $(CACHE)/$(AXE)/axe.min.js ## the web page in Chromium, with pictures of it in bin/pictures; needs chromium and npm
	@mkdir -p $(PICTURES)
	FIELDPOST_SCREENSHOTS=$(abspath $(PICTURES)) FIELDPOST_AXE=$< $(GO) test -tags browser -count 1 -run '^TestPage' ./daemon/interop

pictures: ## the pictures of the page and of watch in deploy, from running programs; needs chromium
	FIELDPOST_WATCH_PICTURE=$(abspath deploy/watch.svg) $(GO) test -tags picture -count 1 -run '^TestPictureOfWatch$$' ./cmd/fieldpost
	FIELDPOST_PICTURE=$(abspath deploy/page.png) $(GO) test -tags browser -count 1 -run '^TestPicture$$' ./daemon/interop

$(CACHE)/$(AXE)/axe.min.js:
	@command -v npm >/dev/null || { echo "npm is not here, which fetches $(AXE)"; exit 1; }
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent axe-core@$(AXE:axe-core-%=%) >/dev/null && tar xzf $(AXE).tgz --strip-components 1 package/axe.min.js

lint: lint-go lint-shell ## gofmt, go vet, staticcheck, shellcheck

lint-go:
	@bad=$$(gofmt -l $(wildcard cmd daemon sensors)) && test -z "$$bad" || { echo "gofmt these:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...
	GOOS=linux $(GO) vet -tags chaos ./daemon/chaos ./cmd/fieldpost
	GOOS=linux $(GO) vet -tags hardware ./sensors/board
	$(GO) vet -tags rehearsal ./daemon/task ./daemon/health ./daemon
	$(GO) vet -tags steps ./daemon
	GOOS=linux $(GO) vet -tags browser ./daemon/interop
	GOOS=linux $(GO) vet -tags picture ./cmd/fieldpost
	$(GO) run $(STATICCHECK) ./...

SHELL_FILES := .ci/run $(wildcard deploy/vm/*.sh deploy/vm/guest/*.sh deploy/hw/*.sh deploy/hw/board/*.sh deploy/hw/trial/*.sh deploy/package/*.sh deploy/image/*.sh) deploy/package/postinst deploy/package/prerm deploy/package/postrm

lint-shell:
	@if command -v $(SHELLCHECK) >/dev/null; then echo "$(SHELLCHECK) $(SHELL_FILES)"; $(SHELLCHECK) -x $(SHELL_FILES); \
	else echo "no shellcheck here: the shell scripts are NOT checked"; fi

# Not a step of `make ci`: it asks vuln.go.dev, and what it says of one commit
# may be another thing tomorrow.
vuln: ## known vulnerabilities in what is built in; needs the network (vuln.go.dev), and fails without
	$(GO) run $(GOVULNCHECK) ./...

# On the smallest board the binary is a good part of the card's and the memory's cost.
SMALLEST := $(BIN)/cross/fieldpost-linux-armv6
SMALLEST_LIMIT := 15000000

cross: $(CROSS:%=cross-%) $(CROSS_PROVISION:%=cross-provision-%) ## build for every board and system, into bin/cross
	@size=$$(wc -c <$(SMALLEST)) && test "$$size" -lt $(SMALLEST_LIMIT) || \
		{ echo "$(SMALLEST) has $$size bytes, want fewer than $(SMALLEST_LIMIT)"; exit 1; }

cross-%: GOOS = $(word 1,$(subst -, ,$*))
cross-%: CPU = $(word 2,$(subst -, ,$*))
cross-%: FORCE
	GOOS=$(GOOS) GOARCH=$(patsubst armv%,arm,$(CPU)) GOARM=$(patsubst armv%,%,$(filter armv%,$(CPU))) \
		$(GO_BUILD) -o $(BIN)/cross/fieldpost-$*$(if $(filter windows,$(GOOS)),.exe) ./cmd/fieldpost

cross-provision-%: GOOS = $(word 1,$(subst -, ,$*))
cross-provision-%: CPU = $(word 2,$(subst -, ,$*))
cross-provision-%: FORCE
	GOOS=$(GOOS) GOARCH=$(patsubst armv%,arm,$(CPU)) GOARM=$(patsubst armv%,%,$(filter armv%,$(CPU))) \
		$(GO_BUILD) -o $(BIN)/cross/fieldpost-provision-$*$(if $(filter windows,$(GOOS)),.exe) ./cmd/fieldpost-provision

vm-test: cross-linux-arm64 ## the installed unit on a real kernel and systemd, in an emulated ARM machine (root)
	deploy/vm/test.sh $(BIN)/cross/fieldpost-linux-arm64

vm-bookworm: cross-linux-arm64 ## the same under Debian 12's systemd 252, which most Raspberry Pis run (root)
	GUEST_SUITE=bookworm deploy/vm/test.sh $(BIN)/cross/fieldpost-linux-arm64

vm-pi: cross-linux-arm64 ## the unit on an emulated Raspberry Pi 3: the names of its lines, its I2C controller (root)
	deploy/vm/test.sh -m raspi3b $(BIN)/cross/fieldpost-linux-arm64

hw-test: ## HOST=pi@raspberrypi ARGS=--reboot: the same on a real board over SSH, with two jumper wires and a BME280; deploy/hw/README.md draws them
	@test -n "$(HOST)" || { echo "which board? make hw-test HOST=pi@raspberrypi"; exit 1; }
	GO=$(GO) deploy/hw/test.sh $(ARGS) $(HOST)

# Not a step of `make ci`: it takes some twelve minutes.
hw-trial: ## tries hw-test against the emulated ARM machine, with wires of software (root)
	GO=$(GO) deploy/hw/trial.sh

PACKAGING = VERSION=$(VERSION) SOURCE_DATE_EPOCH=$$(date -u -d $(BUILD_TIME) +%s) GO=$(GO)

release: cross ## deb and rpm for every board, their SBOMs and checksums, into bin/packages
	$(PACKAGING) deploy/package/build.sh $(BIN)/packages $(BIN)/cross

package-test: cross ## packages are the same bytes each time, and lintian is content
	$(PACKAGING) deploy/package/test.sh $(BIN)/cross

image: cross ## a container image for broker, demo and client commands, as bin/image.tar (OCI); needs no docker
	VERSION=$(VERSION) SOURCE_DATE_EPOCH=$$(date -u -d $(BUILD_TIME) +%s) deploy/image/build.sh $(BIN)/image $(BIN)/cross

image-test: cross ## the image is the same bytes each time, and what is in it runs (root)
	VERSION=$(VERSION) SOURCE_DATE_EPOCH=$$(date -u -d $(BUILD_TIME) +%s) deploy/image/test.sh $(BIN)/cross

ci: export DURATION = 10s
ci: export FAULTS = 20
ci: export SEED = 3
ci: ## what the build machine does: CI_STEPS, all of them, then a count
	@passed=0; failed=''; for step in $(CI_STEPS); do \
		echo "=== $$step"; \
		if $(MAKE) --no-print-directory $$step; then passed=$$((passed + 1)); else failed="$$failed $$step"; fi; \
	done; \
	test -z "$$failed" || echo "failed:$$failed"; \
	echo "$$passed passed, $$(echo $$failed | wc -w) failed of $(words $(CI_STEPS)) steps"; \
	test -z "$$failed"

ETC     := $(DESTDIR)/etc/fieldpost
LIB     := $(DESTDIR)$(PREFIX)/lib
SHARE   := $(DESTDIR)$(PREFIX)/share
SYSTEMD := $(LIB)/systemd/system

install: ## install BINARY, the unit and what it needs under DESTDIR and PREFIX
	@test -x $(BINARY) || { echo "$(BINARY) is not there: run make build first"; exit 1; }
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/fieldpost
	install -d -m 0755 $(SYSTEMD)
	sed 's|/usr/bin/|$(PREFIX)/bin/|' deploy/fieldpost.service >$(SYSTEMD)/fieldpost.service
	chmod 0644 $(SYSTEMD)/fieldpost.service
	install -D -m 0644 deploy/fieldpost.sysusers $(LIB)/sysusers.d/fieldpost.conf
	install -D -m 0644 deploy/fieldpost.tmpfiles $(LIB)/tmpfiles.d/fieldpost.conf
	install -D -m 0644 deploy/fieldpost.modules $(LIB)/modules-load.d/fieldpost.conf
	install -D -m 0644 deploy/fieldpost.catalog $(LIB)/systemd/catalog/fieldpost.catalog
	install -D -m 0644 deploy/fieldpost.rules $(LIB)/udev/rules.d/60-fieldpost.rules
	install -D -m 0644 daemon/config/schema.json $(SHARE)/fieldpost/fieldpost.schema.json
	install -d -m 0755 $(SHARE)/man/man5 $(SHARE)/man/man7
	gzip -9nc deploy/man/fieldpost.yaml.5 >$(SHARE)/man/man5/fieldpost.yaml.5.gz
	gzip -9nc deploy/man/fieldpost-reference.7 >$(SHARE)/man/man7/fieldpost-reference.7.gz
	chmod 0644 $(SHARE)/man/man5/* $(SHARE)/man/man7/*
	install -d -m 0755 $(ETC)
	install -d -m 0750 $(ETC)/certs
	test -e $(ETC)/fieldpost.yaml || install -m 0644 configs/fieldpost.yaml $(ETC)/fieldpost.yaml

clean: ## remove what was built
	rm -rf $(BIN)
