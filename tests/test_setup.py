"""Set-up: everything pinned and checked, once, and one sentence with the remedy where it cannot go on."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SETUP = PROJECT / ".setup"
LOCKS = sorted(SETUP.glob("*.lock"))


def script(name):
    """A module of .setup/, which is no package: nothing of the project may import it."""
    spec = importlib.util.spec_from_file_location(f"setup_{name}", SETUP / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTPRINT_VAR", str(tmp_path))
    (tmp_path / "log").mkdir()
    return script("prepare")


@pytest.fixture
def progress(prepare):
    return prepare.Progress("step")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_every_package_with_its_version_and_hashes_and_no_address(lock):
    text = lock.read_text(encoding="utf-8")
    logical_lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()

    assert "://" not in text
    assert logical_lines
    for line in logical_lines:
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^-]+)?(\s*--hash=sha256:[0-9a-f]{64})+", line), line[:80]


def test_the_locks_are_derived_from_todays_dependencies():
    assert script("lock").stale_locks() == []


def test_a_lock_is_stale_once_a_dependency_has_changed(tmp_path, monkeypatch):
    lock = script("lock")
    changed = lock.PYPROJECT.read_text(encoding="utf-8").replace("pyspark==", "pyspark>=")
    (tmp_path / "pyproject.toml").write_text(changed)
    monkeypatch.setattr(lock, "PYPROJECT", tmp_path / "pyproject.toml")

    assert lock.stale_locks() == list(lock.LOCKS)


def test_a_cluster_gets_the_versions_that_the_tests_ran_with():
    def pins(name):
        return set(re.findall(r"^[\w.-]+==\S+", (SETUP / name).read_text(encoding="utf-8"), re.MULTILINE))

    assert pins("pipeline.lock") < pins("requirements.lock")
    assert not any("airflow" in pin for pin in pins("pipeline.lock"))


def test_the_jars_that_are_here_are_the_ones_expected():
    module = script("prepare")
    if not module.JARS.is_dir():
        pytest.skip("set-up has not fetched the JARs")

    assert module.jars_are_current()


def test_make_help_names_every_command():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    commands = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()

    shown = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout

    assert [line.split()[:2] for line in shown.splitlines()] == [["make", command] for command in commands]


NOTHING_OUTSIDE = """
import runpy, sys

def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}:
        raise SystemExit(f"{event}: {arguments}")

sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_second_set_up_is_silent_quick_and_needs_no_network():
    module = script("prepare")
    if not all(step.is_current() for step in module.STEPS):
        pytest.skip("this environment was not set up by make")
    begun = time.monotonic()

    second = subprocess.run([sys.executable, "-c", NOTHING_OUTSIDE, SETUP / "prepare.py"], capture_output=True, text=True)

    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert time.monotonic() - begun < 3


def test_without_python_3_11_set_up_says_what_to_install(tmp_path):
    ended = subprocess.run(["/bin/sh", SETUP / "setup"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)

    assert ended.returncode == 1
    assert "needs Python 3.11" in ended.stderr
    assert "apt-get install python3.11" in ended.stderr


@pytest.mark.parametrize(("said", "version"), [("17.0.15", 17), ("21", 21), ("25.0.1", 25), ("1.8.0_402", 1)])
def test_java_says_its_version(prepare, tmp_path, said, version):
    assert prepare.java_version(java_home(tmp_path, said)) == version


@pytest.mark.parametrize(("said", "fits"), [("17.0.15", True), ("21.0.1", True), ("25.0.1", False), ("11.0.2", False)])
def test_a_java_that_spark_does_not_run_on_is_passed_over(prepare, tmp_path, monkeypatch, said, fits):
    home = java_home(tmp_path, said)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(prepare, "JAVA_PLACES", ())
    monkeypatch.setattr(prepare.shutil, "which", lambda name: None)

    assert prepare.find_java() == (home if fits else None)


def java_home(folder, version):
    java = folder / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n")
    java.chmod(0o755)
    return java.parent.parent


def test_without_java_and_apt_set_up_says_what_to_install(prepare, progress, monkeypatch):
    monkeypatch.setattr(prepare, "find_java", lambda: None)
    monkeypatch.setattr(prepare.shutil, "which", lambda name: None)

    with pytest.raises(prepare.StopError, match=r"needs Java 17 or 21 .*: install one .* or set JAVA_HOME"):
        prepare.link_java(progress)


def test_a_browser_is_set_up_for_tests_only_and_once(prepare, monkeypatch):
    made = []
    monkeypatch.setattr(prepare, "STEPS", (prepare.Step("of all", lambda: True, made.append),))
    monkeypatch.setattr(
        prepare, "STEPS_OF_TESTS", (prepare.Step("of tests", lambda: bool(made), lambda progress: made.append(1) or "made"),)
    )

    prepare.main()
    assert made == []
    prepare.main(["--tests"])
    prepare.main(["--tests"])
    assert made == [1]


def test_a_browser_on_the_path_is_taken_as_it_is(prepare, monkeypatch):
    monkeypatch.setattr(prepare.shutil, "which", lambda name: f"/usr/bin/{name}")

    assert prepare.browser_is_current()


def test_without_apt_tests_do_without_a_browser(prepare, monkeypatch):
    monkeypatch.setattr(prepare.shutil, "which", lambda name: None)

    assert prepare.browser_is_current()


@pytest.fixture
def apt(prepare, tmp_path, monkeypatch):
    """A machine with apt, which writes down how it is called, as root; apt ends as it is told to."""
    monkeypatch.setattr(prepare.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(prepare.shutil, "which", lambda name: None if name == "chromium" else f"/usr/bin/{name}")

    def ending_with(code):
        called = tmp_path / "bin" / "apt-get"
        called.parent.mkdir(exist_ok=True)
        called.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho "E: cannot"\nexit {code}\n')
        called.chmod(0o755)

    return ending_with


def test_with_apt_chromium_is_installed(prepare, progress, apt, tmp_path):
    apt(0)
    assert not prepare.browser_is_current()

    assert prepare.install_browser(progress) == "chromium"
    assert (tmp_path / "calls").read_text().splitlines() == ["-y update", "-y install --no-install-recommends chromium"]


def test_where_apt_fails_set_up_goes_on_without_a_browser(prepare, progress, apt):
    apt(100)

    assert "could not be installed, tests of pages are skipped" in prepare.install_browser(progress)


def test_an_option_that_is_none_is_refused(prepare):
    with pytest.raises(prepare.StopError, match="--browser is not an option"):
        prepare.main(["--browser"])


def test_a_jar_with_other_bytes_is_not_taken_over(prepare, tmp_path):
    fetched = tmp_path / "ivy" / "jars"
    fetched.mkdir(parents=True)
    for name in prepare.expected_jars():
        (fetched / f"io.delta_{name}").write_bytes(b"something else")

    with pytest.raises(prepare.StopError, match="have not the SHA-256 expected"):
        prepare.keep_jars(fetched)
    assert list((tmp_path / "jars").iterdir()) == []


def test_a_command_that_fails_stops_set_up_with_the_remedy_the_cause_and_the_log(prepare):
    with pytest.raises(prepare.StopError, match=r"Look there\. .*setup\.log; what went wrong: ERROR: no route"):
        prepare.run(["sh", "-c", "echo ERROR: no route; echo bye; exit 3"], "Look there.")


def test_an_interrupted_installation_is_begun_anew(prepare, tmp_path, monkeypatch):
    for name in ("PACKAGES_STAMP", "HALF_DONE"):
        monkeypatch.setattr(prepare, name, tmp_path / name)
    prepare.PACKAGES_STAMP.write_text(prepare.packages_inputs())
    assert prepare.packages_are_current()

    prepare.HALF_DONE.touch()
    assert not prepare.packages_are_current()


def test_the_environment_file_keeps_airflow_inside_the_projects_own_folder(tmp_path):
    settings = os.environ | {"FOOTPRINT_VAR": str(tmp_path), "AIRFLOW_HOME": "/elsewhere"}
    show = ". .setup/environment && env"

    shown = subprocess.run(["sh", "-c", show], cwd=PROJECT, env=settings, capture_output=True, text=True, check=True).stdout
    environment = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    assert environment["AIRFLOW_HOME"] == f"{tmp_path}/airflow"
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow/airflow.db"
    assert environment["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "True"
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
