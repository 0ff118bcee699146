"""Packaging of adaptive_dropout: everything is read from settings.ini."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
STATUS = {"2": "2 - Pre-Alpha", "3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}

config = ConfigParser(delimiters=["="])
config.read(HERE / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]


def python_versions() -> list[str]:
    "The supported versions, oldest first."
    first, last = (int(settings[key].split(".")[1]) for key in ("min_python", "max_python"))
    return [f"3.{minor}" for minor in range(first, last + 1)]


def project_urls() -> dict[str, str]:
    "Links that derive from the repository's address; none while it is empty."
    address = settings["git_url"].strip().rstrip("/")
    if not address:
        return {}
    changelog = f"{address}/blob/{settings['branch']}/CHANGELOG.md"
    return {"Source": address, "Issues": f"{address}/issues", "Changelog": changelog}


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="Apache-2.0",
    url=settings["git_url"].strip(),
    project_urls=project_urls(),
    keywords=settings["keywords"].split(),
    classifiers=[
        f"Development Status :: {STATUS[settings['status']]}",
        f"Intended Audience :: {settings['audience']}",
        f"Natural Language :: {settings['language']}",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Mathematics",
        *(f"Programming Language :: Python :: {version}" for version in python_versions()),
    ],
    packages=find_packages(include=["adaptive_dropout", "adaptive_dropout.*"]),
    include_package_data=True,
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={name: settings[f"{name}_requirements"].split() for name in ("explore", "bayes", "dev")},
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{settings['lib_path']}={settings['lib_path']}._modidx:d"],  # so that Quarto's pages link names
    },
    zip_safe=False,
)
