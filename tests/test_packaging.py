"""The package as pip sees it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from notebooks import ROOT
from readme import settings


def metadata(folder: Path, *fields: str) -> list[str]:
    "What setup.py in `folder` says, one line per field."
    command = [sys.executable, "setup.py", "--quiet", *(f"--{field}" for field in fields)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def copy(tmp_path) -> Path:
    "The files that setup.py reads, to be changed freely."
    for name in ("setup.py", "settings.ini", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_setup_reads_settings(copy):
    values = settings()
    assert metadata(copy, "name", "version") == [values["lib_name"], values["version"]]


def test_address_stands_in_one_place(copy):
    ini = copy / "settings.ini"
    ini.write_text(re.sub(r"^git_url =.*$", "git_url =", ini.read_text(), flags=re.MULTILINE))
    assert "http" not in "".join(metadata(copy, "url"))
    ini.write_text(re.sub(r"^git_url =.*$", "git_url = https://host/o/r", ini.read_text(), flags=re.MULTILINE))
    assert metadata(copy, "url") == ["https://host/o/r"]


def test_import_is_quick_and_needs_no_torch():
    code = (
        "import sys, time; start = time.perf_counter(); import adaptive_dropout\n"
        "heavy = {'torch', 'sympy', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert time.perf_counter() - start < 1\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_version_is_the_one_in_settings():
    import adaptive_dropout

    assert adaptive_dropout.__version__ == settings()["version"]
    assert f"\n## {settings()['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def pinned() -> dict[str, str]:
    "Name -> version in constraints.txt."
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return {plain(name): version for name, version in re.findall(r"^(\S+)==(\S+)$", text, re.MULTILINE)}


def plain(name: str) -> str:
    "A distribution's name in the one spelling that compares."
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_within_its_bounds():
    from packaging.requirements import Requirement

    values = settings()
    pins = pinned()
    for text in (values["requirements"] + " " + values["dev_requirements"]).split():
        requirement = Requirement(text)
        pin = pins[plain(requirement.name)]
        assert requirement.specifier.contains(pin), (text, pin)
    assert pins["torch"] == "2.13.0"  # the exact spelling takes the small CPU wheel where one is at hand
    assert "torch==2.13.0" in (ROOT / "tools" / "setup.sh").read_text(encoding="utf-8")


def test_every_pin_is_what_runs_here():
    "The environment that the checks run in is the one that constraints.txt describes."
    from importlib.metadata import PackageNotFoundError, version

    different = {}
    for name, wanted in pinned().items():
        try:
            here = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue  # a package for another platform or Python
        if here != wanted:
            different[name] = (here, wanted)
    assert not different


def test_file_list_of_the_sdist_has_what_setup_reads():
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    for needed in ("settings.ini", "README.md", "LICENSE"):
        assert needed in manifest


def test_console_script_points_to_the_program():
    name, target = settings()["console_scripts"].split("=")
    assert (name, target) == ("adaptive-dropout", "adaptive_dropout.cli:main")
