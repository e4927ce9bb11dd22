# Two commands matter: `make run` to see Yufu work, `make test` to test it.
# The work itself is in .ci/, in plain shell scripts that also run by hand.

.DEFAULT_GOAL := help
.PHONY: help run build deps quick test interop citus bench lint generate check fuzz flaky vuln clean

# Extra arguments for `make run`, for example: make run ARGS=--help
ARGS ?=

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build Yufu and start it for development; needs only Go.
	@exec bin/yufu dev $(ARGS)

build: ## Build bin/yufu.
	@.ci/build

deps: ## Install what the tests need beyond Go (as root: system packages too).
	@.ci/deps

quick: ## Run the tests that are fast: most packages, in under a minute.
	@.ci/quick

test: ## Run all tests, with RACE=yes under the race detector.
	@.ci/test $(if $(RACE),--race)

interop: ## Run the tests that are too long for make test: see .ci/heavy.
	@.ci/interop

citus: ## Run the store's tests on the Citus cluster whose coordinator is at DSN.
	@.ci/citus "$(DSN)"

bench: ## Run the benchmarks, or those that PATTERN matches; takes half an hour.
	@.ci/bench $(PATTERN)

lint: ## Check the format and lint Go and TypeScript.
	@.ci/check format lint typescript

generate: ## Make the generated files again, and bring go.mod and go.sum up to date.
	@.ci/generate

check: ## Lint, generated files, oldest Go, fuzzing; takes minutes.
	@.ci/check $(STEPS)

fuzz: ## Fuzz every decoder with a million inputs each, or INPUTS=n; takes hours.
	@.ci/fuzz $(INPUTS)

flaky: ## Look for tests that fail by chance: 20 runs, or TIMES=n; takes hours.
	@.ci/flaky $(or $(TIMES),20) $(PACKAGES)

vuln: ## Report known vulnerabilities of dependencies and of Go itself.
	@.ci/vuln

clean: ## Remove what was built and installed here; keeps the data in .yufu.
	rm -rf bin .deps pkg/miniprogram/dist pkg/miniprogram/miniprogram_dist
	git ls-files '*package-lock.json' | while read -r f; do rm -rf "$$(dirname "$$f")/node_modules"; done
