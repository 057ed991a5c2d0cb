# `make demo` and `make test` are the two commands of the README. Both install what is missing first (tests/setup).
#
# Everything that links DuckDB is built in the dev profile, always for the whole workspace: its C++ is compiled once.
# Clones of this repository share the compiled dependencies.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/errand/target
export CARGO_TERM_COLOR ?= auto
NEXTEST_PROFILE ?= $(if $(CI),ci,default)

.NOTPARALLEL:
.PHONY: demo cloud-demo test bench image lint deny setup build clean

## the main job on TPC-H data, end to end
demo:
	@tests/setup build
	@jobs/demo.sh

## the whole of it in a local cloud: the stack, a schedule that fires, a task that loads, a job that fails and what people are told
cloud-demo: setup build
	@tests/images slim
	@tests/services run $(CARGO_TARGET_DIR)/debug/cloud-demo

## formatting, lints, every test; the stories with everything real at once are one process, which shares one stack
test: setup lint build
	@tests/images
	@tests/services run sh -c 'cargo nextest run --locked --workspace --profile $(NEXTEST_PROFILE) && \
		cargo test --locked --workspace --test story -- --test-threads 6'
	cargo test --locked --doc --workspace --quiet

## the slim image `errand`, and what it weighs
image:
	@tests/setup build
	@docker/build

## speed and memory beside DuckDB's own loader, psql, and other movers; `make bench BENCH="--only postgres"` measures one group
bench: build setup
	@tests/services run $(CARGO_TARGET_DIR)/debug/bench $(BENCH)

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

## licences, sources and advisories of dependencies; needs `cargo install cargo-deny` and the network
deny:
	cargo deny --locked check

build:
	@tests/setup build
	cargo build --locked --workspace

setup:
	@tests/setup test

## what demo and local runs left here; compiled dependencies stay
clean:
	rm -rf .demo .errand
