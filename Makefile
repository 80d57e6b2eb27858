# Stockpot's tasks. `make` alone lists them; each does the set-up it needs.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-s3 setup-csi build print-binary man demo test check unit host-tests two-nodes selftest csi-sanity gateway-clients reader gateway-fuzz test-s3 test-long bench flame deny clean

# Build output is shared by all checkouts of a user, so that a second one builds quickly.
XDG_CACHE_HOME ?= $(HOME)/.cache
CACHE := $(XDG_CACHE_HOME)/stockpot
export CARGO_TARGET_DIR ?= $(CACHE)/target
BINARY := $(CARGO_TARGET_DIR)/release/stockpot
FIXTURES := $(CURDIR)/test-fixtures
# The S3 servers of test-s3; one name, or several with commas.
S3_SERVERS ?= versitygw,minio

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: ## install the compiler's, the test host's and the reader's needs (Debian amd64, root); says what it cannot
	@$(FIXTURES)/setup host
	@$(FIXTURES)/setup reader

setup-s3: ## build the S3 servers for test-s3 and bench: versitygw, MinIO (12 minutes, once)
	@$(FIXTURES)/setup s3

setup-csi: ## build csi-sanity (1 minute, once)
	@$(FIXTURES)/setup csi

build: ## the release binary
	@command -v cargo >/dev/null || { echo "there is no cargo: install Rust by https://rustup.rs"; exit 1; }
	cargo build --locked --release -p stockpot
	@echo "built $(BINARY)"

print-binary: # where `make build` puts it
	@echo $(BINARY)

# MAN_DIR is where the pages go; packages and a system-wide install want share/man/man1 below their prefix.
MAN_DIR ?= $(CURDIR)/target/man/man1
man: build ## the manual pages, one for each verb, in MAN_DIR (target/man/man1)
	$(BINARY) man $(MAN_DIR)

demo: setup ## the whole promise in one run: snapshot, upload, loss, volume from the cloud copy
	$(FIXTURES)/demo

test: setup setup-csi check unit reader host-tests two-nodes selftest csi-sanity ## all of: check, unit, reader, host-tests, two-nodes, selftest, csi-sanity

check: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

unit: ## the tests that need only Rust
	cargo test --locked --workspace

host-tests: setup ## the tests that need LVM, mounts and loop devices, in guests of the test host
	$(FIXTURES)/host-tests

two-nodes: setup ## two booted hosts: a storage node, and a worker whose volumes lie there
	cargo build --locked --quiet --workspace --bins
	python3 $(FIXTURES)/two-nodes/run.py --bin $(CARGO_TARGET_DIR)/debug $(NODES_OPTIONS)

selftest: setup ## the tests of the test host itself
	$(FIXTURES)/testhost-selftest

csi-sanity: setup setup-csi ## the conformance tests of CSI, against the driver in a guest
	$(FIXTURES)/csi-sanity-run

gateway-clients: setup ## the real python-cinderclient, and the calls of OpenSDS and of OpenEBS's plugin, against the gateway, on LVM and an S3 server in guests
	$(FIXTURES)/gateway-clients/run

reader: ## the independent reader restores the document's examples and every golden repository, and finds damage
	@$(FIXTURES)/setup reader
	$(CACHE)/reader-venv/bin/python $(FIXTURES)/reader/check_document.py
	$(CACHE)/reader-venv/bin/python $(FIXTURES)/reader/check_golden.py

gateway-fuzz: ## every REST call with input made from the gateway's own description (FUZZ_EXAMPLES=100, FUZZ_SEED)
	@$(FIXTURES)/setup fuzz
	$(FIXTURES)/schemathesis

test-s3: setup setup-s3 ## the store and the whole flow against real S3 servers (S3_SERVERS=versitygw,minio)
	STOCKPOT_TEST_S3=$(S3_SERVERS) cargo test --locked --workspace --test store --test verbs
	STOCKPOT_TEST_S3=$(S3_SERVERS) cargo test --locked --workspace --test s3 --test integration --test flows -- real:: thief:: locked::
	STOCKPOT_TEST_S3=$(S3_SERVERS) cargo test --locked --workspace --test kills -- --nocapture
	STOCKPOT_TEST_S3=$(S3_SERVERS) $(FIXTURES)/host-tests --package stockpot-manager host -- versitygw minio

test-long: setup setup-s3 setup-csi ## many more property cases, interleavings, kills and storms, on all servers (an hour)
	PROPTEST_CASES=2000 cargo test --locked --workspace
	$(MAKE) two-nodes NODES_OPTIONS=--long
	STOCKPOT_TEST_INTERLEAVINGS=60 STOCKPOT_TEST_KILLS=60 STOCKPOT_TEST_STORMS=60 $(MAKE) test-s3
	STOCKPOT_TEST_DATABASE_SECONDS=120 $(FIXTURES)/host-tests --package stockpot-manager host -- database --nocapture
	$(FIXTURES)/csi-sanity-run thick
	$(MAKE) gateway-clients gateway-fuzz
	STOCKPOT_TEST_CYCLES=200 STOCKPOT_HOST_TESTS_SECONDS=3600 $(FIXTURES)/host-tests --package stockpot-driver iscsi -- cycles

# BENCH_RUNS (5), BENCH_PEERS (pipe,restic,rustic,borg), BENCH_IMAGES (A,B,C), BENCH_DIR for the images (12 GiB).
BENCH_DIR ?= /var/tmp/stockpot-bench
bench: setup build ## side by side with zstd | aws, restic, rustic and borg; report with plots in target/bench; kills; a 1 TiB thin volume, and iSCSI, in a guest
	@$(FIXTURES)/setup bench
	python3 $(FIXTURES)/bench/run.py --binary $(BINARY) --server $(CACHE)/bin/versitygw --aws $(CACHE)/awscli/bin/aws --rustic $(CACHE)/bin/rustic --dir $(BENCH_DIR)
	python3 $(FIXTURES)/bench/killed.py --binary $(BINARY) --server $(CACHE)/bin/versitygw --dir $(BENCH_DIR)
	$(FIXTURES)/bench/thin
	$(FIXTURES)/bench/attach

flame: setup build ## where the CPU time of a full upload goes: a flame graph in target/bench
	@$(FIXTURES)/setup flame
	python3 $(FIXTURES)/bench/flame.py --binary $(BINARY) --server $(CACHE)/bin/versitygw --inferno $(CACHE)/bin --dir $(BENCH_DIR)

deny: ## licences, advisories and duplicates among the dependencies (builds cargo-deny once)
	@$(FIXTURES)/setup deny
	$(CACHE)/bin/cargo-deny --locked check

clean: ## remove this project's build output, and leave the installed tools
	cargo clean --workspace
