"""Tests see the tools of the repository as modules, and property tests draw the same examples in every run."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

# To search further: pytest --hypothesis-profile=default
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def experiment():
    "Function from a folder of experiments/ to its run.py as a module."

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / name / "run.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


# One Chromium for all tests marked `browser`: Playwright can be started only once in a process.
STRICT = os.environ.get("CI", "").lower() not in ("", "0", "false")


def missing(what: str):
    "Without a browser: a failure where all checks must run, elsewhere left out."
    (pytest.fail if STRICT else pytest.skip)(f"{what}: `.ci/run` installs what the browser tests need")


@pytest.fixture(scope="session")
def browser():
    "A Chromium, whose pages the tests open."
    try:
        from playwright import sync_api as playwright
    except ImportError:
        missing("no playwright")
    named = [os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))]
    program = next(filter(None, named), None) or missing("no Chromium")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()
