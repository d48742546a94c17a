# Thin on purpose: what a target does stands in scripts/.
.DEFAULT_GOAL := help
.PHONY: help demo test bench soak run fmt clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Build, start in an empty directory, log real work into it, stay up until Ctrl-C
	@scripts/demo.sh

test: ## Everything: format, lints, dependency policy, all tests (what CI runs)
	@scripts/test.sh

bench: ## Build a release and print what it does, beside a reference
	@scripts/bench.sh $(BENCH)

soak: ## The fault tests over and over with other seeds, and the fuzz targets: hours
	@scripts/soak.sh

run: ## Serve ./data on 127.0.0.1:7867
	@scripts/run.sh

fmt: ## Format the sources
	@cargo fmt --all

clean: ## Remove what was built, here and in the cache
	@scripts/clean.sh
