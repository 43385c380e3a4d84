# make run: a running platform from nothing. make test: every check that one machine can make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
PYTHON ?= python3
TNMT_HOME ?= $(CURDIR)/var
SIZE ?= S
SERVE ?= 1
FUZZ ?= 10
KILLS ?= 100
PROCESSES ?= 2
B := .boot/bin
V := .venv/bin
export TNMT_HOME
export UV_PYTHON_DOWNLOADS := never
export DAGSTER_DISABLE_TELEMETRY := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false
.PHONY: help setup run serve test check faults fuzz bench lint clean superset dev peers scale-out parity

help:
	@echo "make run     set up, sample province, whole pipeline, Superset and Dagster (SERVE=0: all but stay up)"
	@echo "make test    all tests, in PROCESSES=2 at once      make lint   ruff, mypy, sqlfluff"
	@echo "make check   lint, unit tests and architecture, for every commit"
	@echo "make faults  the long ones: KILLS=100 kills at any moment on each catalog, the zoo in all orders, zones and catalogs, property tests on PostgreSQL"
	@echo "make fuzz    property tests on new, FUZZ=10 times as many examples"
	@echo "make bench   SIZE=S|M|L     make clean  remove environments and the sample platform"
	@echo "make scale-out   Spark and Sedona beside the platform, for what one machine does not hold (S3=1: and its jars for object storage)"
	@echo "make parity  models on Spark equal those on DuckDB: sizes S and M, cluster with a killed worker, object storage (fetches 560 MB), PostgreSQL"

.boot/.stamp: requirements/uv.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or 3.12 is needed and $(PYTHON) was not found: install it, or name it with PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { echo "Python 3.11 or 3.12 is needed, found $$($(PYTHON) --version): name another one with PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import shutil, sys; sys.exit(shutil.disk_usage(".").free < 6 * 2**30)' || { echo "6 GB of free disk are needed here, found $$(df -h . | awk 'NR==2 {print $$4}')"; exit 1; }
	@echo "· tools of the set-up"
	@$(PYTHON) -m venv .boot || { echo "the venv module of $(PYTHON) is needed (Debian: apt-get install python3-venv)"; exit 1; }
	@$(B)/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/uv.txt
	@touch $@

# the development environment holds the runtime too, so `make run` after `make test` takes it as it is
.venv/.runtime: .boot/.stamp requirements/platform.txt pyproject.toml
	@if [ ! -e .venv/.dev ] || [ requirements/platform-dev.txt -nt .venv/.dev ]; then \
		echo "· platform environment"; \
		[ -x $(V)/python ] || $(B)/uv venv -q -p $(B)/python .venv; \
		$(B)/uv pip sync -q --compile-bytecode --require-hashes -p $(V)/python requirements/platform.txt; \
		$(B)/uv pip install -q --no-deps --no-build-isolation -p $(V)/python -e .; rm -f .venv/.dev; fi
	@touch $@

.venv/.dev: .boot/.stamp requirements/platform-dev.txt pyproject.toml
	@echo "· platform environment with the tools of tests and lint"
	@[ -x $(V)/python ] || $(B)/uv venv -q -p $(B)/python .venv
	@$(B)/uv pip sync -q --compile-bytecode --require-hashes -p $(V)/python requirements/platform-dev.txt
	@$(B)/uv pip install -q --no-deps --no-build-isolation -p $(V)/python -e .
	@touch $@ .venv/.runtime

.superset/.stamp: .boot/.stamp requirements/superset.txt
	@echo "· Superset environment"
	@[ -x .superset/bin/python ] || $(B)/uv venv -q -p $(B)/python .superset
	@$(B)/uv pip sync -q --compile-bytecode --require-hashes -p .superset/bin/python requirements/superset.txt
	@touch $@

.peers/.stamp: .boot/.stamp requirements/peers.txt
	@echo "· environment of the peers of the bench"
	@[ -x .peers/bin/python ] || $(B)/uv venv -q -p $(B)/python .peers
	@$(B)/uv pip sync -q --require-hashes -p .peers/bin/python requirements/peers.txt
	@touch $@

# packages that the platform's environment does not see, and jars; nothing is fetched after this
.spark/.stamp: requirements/scale-out.txt infra/spark/pom.xml infra/spark/jars.sha256 | .venv/.runtime
	@for tool in java mvn; do command -v $$tool >/dev/null || { echo "Spark needs Java 17 and Maven, and $$tool was not found (Debian: apt-get install openjdk-17-jre-headless maven)"; exit 1; }; done
	@echo "· Spark: packages"
	@rm -rf .spark && mkdir .spark && $(B)/uv venv -q -p $(B)/python .spark/build
	@# pyspark is built from source, by a setuptools of the lock: an isolated build would fetch one unhashed
	@sed -n '/^setuptools==/,/[^\\]$$/p' requirements/scale-out.txt > .spark/build.txt
	@$(B)/uv pip install -q --no-deps --require-hashes --only-binary :all: -p .spark/build/bin/python -r .spark/build.txt
	@$(B)/uv pip install -q --no-deps --require-hashes --no-build-isolation --compile-bytecode \
		-p .spark/build/bin/python --target .spark/packages -r requirements/scale-out.txt
	@echo "· Spark: jars"
	@mvn -B -q -f infra/spark/pom.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/.spark/jars"
	@$(V)/python -m lake.spark.read
	@touch $@

# object storage: 560 MB of jars in a folder of their own, which `session` takes where the lake lies on s3://
.spark/.s3: .spark/.stamp infra/spark/jars-s3.sha256
	@echo "· Spark: jars for object storage"
	@rm -rf .spark/jars-s3
	@mvn -B -q -f infra/spark/pom.xml -P s3 dependency:copy-dependencies -DincludeGroupIds=org.apache.hadoop,software.amazon.awssdk \
		-DoutputDirectory="$(CURDIR)/.spark/jars-s3"
	@$(V)/python -m lake.spark.read --s3
	@touch $@

# an object store for the tests, built from source with the hashes of go.sum; what building it needs is removed again
.spark/bin/versitygw: infra/object-store/go.mod infra/object-store/go.sum | .spark/.stamp
	@command -v go >/dev/null || { echo "the object store of the tests is built with Go 1.25, and go was not found"; exit 1; }
	@echo "· object store of the tests"
	@cd infra/object-store && GOPATH="$(CURDIR)/.spark/go" GOMODCACHE="$(CURDIR)/.spark/go/pkg/mod" GOCACHE="$(CURDIR)/.spark/go/cache" GOFLAGS=-modcacherw \
		go build -mod=readonly -trimpath -o "$(CURDIR)/$@" github.com/versity/versitygw/cmd/versitygw
	@rm -rf .spark/go

setup: .venv/.runtime
superset: .superset/.stamp
dev: .venv/.dev
peers: .peers/.stamp
scale-out: .spark/.stamp $(if $(filter 1,$(S3)),.spark/.s3)
	@$(V)/python -m lake.spark.read $(if $(filter 1,$(S3)),--s3)

run: .venv/.runtime .superset/.stamp
	@mkdir -p "$(TNMT_HOME)" && touch "$(TNMT_HOME)/.made-by-make-run"
	@echo "· lake"; $(V)/tnmt init
	@echo "· sample province"; $(V)/tnmt sample
	@echo "· pipeline"; $(V)/tnmt run || [ $$? = 3 ]  # 3: a source failed or a delivery is blocked; the others are served
	@echo "· Superset and Dagster"; $(V)/tnmt serve $(if $(filter 0,$(SERVE)),--no-stay)

serve: .venv/.runtime .superset/.stamp
	@$(V)/tnmt serve

test: .venv/.dev .superset/.stamp
	@tests/system_packages.sh
	@$(MAKE) --no-print-directory scale-out || { [ -e .spark/.stamp ] || rm -rf .spark; \
		echo "Spark is not set up, so the tests that need it are skipped (REQUIRE=spark fails them)"; }
	@PATH="$(CURDIR)/$(V):$$PATH" $(V)/python -m pytest -q -rsfE -n $(PROCESSES) --durations 30 --durations-min 20

# tests/unit makes no lake and starts no program of the platform (tests/unit/test_architecture.py); one that takes two minutes fails
check: lint
	@PATH="$(CURDIR)/$(V):$$PATH" $(V)/python -m pytest -q -rsfE -n $(PROCESSES) --timeout 120 tests/unit

faults: .venv/.dev .superset/.stamp
	@tests/system_packages.sh
	@PATH="$(CURDIR)/$(V):$$PATH" KILLS=$(KILLS) REQUIRE=postgresql $(V)/python -m pytest -q -rsfE -s -m "long or not long" --timeout 86400 --durations 12 \
		tests/faults $$(grep -rl 'mark.long' tests/properties tests/integration tests/unit tests/browser || true)

parity: .venv/.dev .spark/.s3 .spark/bin/versitygw
	@REQUIRE=spark,object-storage,postgresql $(V)/python -m pytest -q -rsfE -m "parity or not parity" --timeout 3600 --durations 12 \
		tests/integration/test_scale_out.py tests/integration/test_spark_s3.py

fuzz: .venv/.dev
	@FUZZ=$(FUZZ) $(V)/python -m pytest -q $$(grep -rl '@given' tests)

lint: .venv/.dev
	@$(V)/ruff check . && $(V)/ruff format --check . && $(V)/mypy && $(V)/python -m marts.scale_out && cd dbt_project && ../$(V)/sqlfluff lint -q models

bench: .venv/.dev .peers/.stamp
	@[ -d "$(TNMT_HOME)" ] || { mkdir -p "$(TNMT_HOME)" && touch "$(TNMT_HOME)/.made-by-make-run"; }
	@$(V)/python -m tests.bench --size $(SIZE)

clean:
	@if [ -d "$(TNMT_HOME)" ]; then \
		[ -e "$(TNMT_HOME)/.made-by-make-run" ] || { echo "$(TNMT_HOME) was not made by make run: not removed"; exit 1; }; \
		rm -rf "$(TNMT_HOME)"; fi
	@rm -rf .venv .boot .superset .peers .spark dbt_project/target dbt_project/logs .pytest_cache .ruff_cache .mypy_cache
