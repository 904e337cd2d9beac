"""The lock files: which version and bytes of every package are installed, derived from pyproject.toml.

python .setup/lock.py check             are they fresh? (offline)
python .setup/lock.py write [--upgrade] derive them again (needs uv, a developer's tool)
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

SETUP = Path(__file__).resolve().parent
PYPROJECT = SETUP.parent / "pyproject.toml"
LOCKS = {
    "requirements.lock": (
        ["--extra", "airflow", "--extra", "dev", "--extra", "portal", "--extra", "report"],
        "Everything that make run, make test, make airflow and make portal use.",
    ),
    "pipeline.lock": (
        ["--constraint", ".setup/requirements.lock"],
        "The pipeline alone, without Airflow and developers' tools: for a Spark cluster.",
    ),
    "build.lock": ([], "What builds packages that come as source (pyspark), and the project itself: to install first."),
}


def dependencies_digest() -> str:
    """SHA-256 of what pyproject.toml says of dependencies, and of nothing else in it."""
    declared = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    project = declared["project"]
    tables = [declared["build-system"]["requires"], project["requires-python"]]
    tables += [project["dependencies"], project["optional-dependencies"]]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def stamp() -> str:
    """The line of a lock's header that says what it was derived from."""
    return f"# sha256 of the dependency tables of pyproject.toml: {dependencies_digest()}"


def stale_locks() -> list[str]:
    """Names of the locks that are missing or derived from other dependencies."""
    paths = [SETUP / name for name in LOCKS]
    return [path.name for path in paths if not path.is_file() or stamp() not in path.read_text(encoding="utf-8")]


def write(*, upgrade: bool) -> None:
    """Derive every lock; versions already locked stay unless they have to change or an upgrade is asked for."""
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("uv derives the lock files and is not on the PATH: `pip install uv`, then run this again.")
    build_requires = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["build-system"]["requires"]
    for name, (options, purpose) in LOCKS.items():
        source = "-" if name == "build.lock" else PYPROJECT.name
        command = [uv, "pip", "compile", source, *options, "--output-file", str(SETUP / name), "--generate-hashes", "--quiet"]
        command += [
            "--python-version",
            "3.11",
            "--no-annotate",
            "--no-header",
            "--no-config",
            *(["--upgrade"] if upgrade else []),
        ]
        subprocess.run(
            command, check=True, cwd=PYPROJECT.parent, input="\n".join(build_requires), text=True, stdout=subprocess.DEVNULL
        )
        locked = (SETUP / name).read_text(encoding="utf-8")
        header = f"# {purpose}\n# Derived: change pyproject.toml, then run `python .setup/lock.py write`.\n{stamp()}\n"
        (SETUP / name).write_text(header + locked, encoding="utf-8")
        print(f"{name}: {locked.count('==')} packages")


def main() -> None:
    """Check or write, as the command line says."""
    if sys.argv[1:] == ["check"]:
        if stale := stale_locks():
            sys.exit(f"{', '.join(stale)}: not derived from today's pyproject.toml; run `python .setup/lock.py write`.")
    elif sys.argv[1:] in (["write"], ["write", "--upgrade"]):
        write(upgrade="--upgrade" in sys.argv)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
