# Entry points only: each target's work is in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo build test simulate lint fmt stack-up stack-down

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## build axs and show it at work: in memory, no servers needed
	@scripts/demo

build: ## build the release binary
	@scripts/install build
	@. scripts/lib.sh && cargo build --release && echo "$$CARGO_TARGET_DIR/release/axs"

test: ## install what is missing, check the code, test against real servers
	@scripts/test

simulate: ## the seeded simulation alone: 20,000 seeds, every step struck, every guard switched off
	@scripts/simulate --ci

lint: ## formatting, clippy, docs, dependencies, shell scripts
	@scripts/install test
	@scripts/lint

fmt: ## format the code
	@cargo fmt

stack-up: ## start PostgreSQL, Redis and Kafka for this checkout
	@scripts/install test
	@scripts/stack up
	@echo 'eval "$$(scripts/stack env)"   # sets their addresses'

stack-down: ## stop them; their data stays (scripts/stack down --purge deletes it)
	@scripts/stack down
