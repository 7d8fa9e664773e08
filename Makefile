# make demo   install into .venv, then train a character LSTM for two minutes and let it write
# make test   install into .venv, then run the tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := $(shell find src_cython -type f) setup.py pyproject.toml
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined

.PHONY: demo test install bench results lint sanitize sanitize-threads clean

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

# DATA is a folder with the data sets that docs/results.md names.
results: install
	$(BIN)/python examples/results.py $(DATA)

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

# The threads under ThreadSanitizer, which wants addresses at fixed places. It has a thread itself.
sanitize-threads: install
	$(BIN)/pip install --quiet "Cython>=3.1" setuptools
	rm -rf build/sanitize-threads && mkdir -p build/sanitize-threads
	cp -r setup.py pyproject.toml README.md src_cython rnncore tests build/sanitize-threads/
	rm -f build/sanitize-threads/rnncore/engine/*.so
	cd build/sanitize-threads && RNNCORE_BUILDS=baseline RNNCORE_LDFLAGS=-fsanitize=thread \
		RNNCORE_CFLAGS="-fsanitize=thread -g -O1" \
		$(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace
	cd build/sanitize-threads && LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)" PYTHONPATH=. \
		OPENBLAS_NUM_THREADS=1 setarch -R $(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider \
		tests/test_threads.py tests/test_sharing.py tests/test_stalls.py \
		--deselect tests/test_threads.py::test_a_team_is_there

clean:
	rm -rf build $(VENV) rnncore/engine/*.so *.egg-info
