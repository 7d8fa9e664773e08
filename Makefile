# make demo   install into .venv, then train a character LSTM for two minutes and let it write
# make test   install into .venv, then run the tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := $(shell find src_cython -type f) setup.py pyproject.toml
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined

.PHONY: demo test install bench lint sanitize clean

demo: install
	$(BIN)/rnncore demo

test: install
	$(BIN)/python -m pytest -q

install: $(VENV)/installed

# Built again only when the engine's source or the settings changed.
$(VENV)/installed: $(ENGINE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[plot,test]"
	touch $@

bench: install
	$(BIN)/pip install --quiet --editable ".[bench]"
	$(BIN)/python -m pytest bench

lint: install
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The engine under AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of its own.
sanitize: install
	$(BIN)/pip install --quiet "Cython>=3.1" setuptools
	rm -rf build/sanitize && mkdir -p build/sanitize
	cp -r setup.py pyproject.toml README.md src_cython rnncore tests build/sanitize/
	rm -f build/sanitize/rnncore/engine/*.so
	cd build/sanitize && RNNCORE_CFLAGS="$(SANITIZE) -g -O1" RNNCORE_LDFLAGS="$(SANITIZE)" \
		$(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace
	cd build/sanitize && ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		PYTHONPATH=. PYTHONMALLOC=malloc $(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider \
		tests/test_parity.py tests/test_threads.py tests/test_numerics.py

clean:
	rm -rf build $(VENV) rnncore/engine/*.so *.egg-info
