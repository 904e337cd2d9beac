"""Prepare what the project runs on, each step only when its inputs have changed: a second call does nothing and needs no network.

Everything is made in two folders that git ignores: .venv/ and var/ (or FOOTPRINT_VAR).
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SETUP = Path(__file__).resolve().parent
PROJECT = SETUP.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
SITE = VENV / "lib" / "python3.11" / "site-packages"
VAR = PROJECT / os.environ.get("FOOTPRINT_VAR", "var")
JAVA = VAR / "java"
JARS = VAR / "jars"
LOG = VAR / "log" / "setup.log"

JAVA_VERSIONS = (17, 21)
"""What Spark 4.1 runs on."""

JAVA_PLACES = (
    "usr/lib/jvm/*",
    "opt/java/*",
    "Library/Java/JavaVirtualMachines/*/Contents/Home",
    "opt/homebrew/opt/openjdk@*/libexec/openjdk.jdk/Contents/Home",
)

COMPLAINT = re.compile(r"error|unable|could not|no space", re.IGNORECASE)
"""How the programs that set-up calls begin to say what went wrong."""

NOT_DELTAS_OWN = [
    "io.unitycatalog:unitycatalog-client",
    "io.unitycatalog:unitycatalog-hadoop",
    "io.delta:delta-kernel-api",
    "io.delta:delta-kernel-defaults",
    "io.delta:delta-kernel-unitycatalog",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.apache.hadoop:hadoop-client-api",
    "org.antlr:antlr4-runtime",
    "org.slf4j:slf4j-api",
    "org.apache.logging.log4j:log4j-slf4j2-impl",
]
"""Dependencies that Spark ships itself or that path tables do not need."""


class StopError(Exception):
    """Set-up cannot go on; the message is one sentence with the remedy."""


@dataclass(frozen=True)
class Step:
    """One thing to prepare: is it as it should be, and how to make it so. ``make`` returns what it made, in few words."""

    name: str
    is_current: Callable[[], bool]
    make: Callable[[Progress], str]


class Progress:
    """One line of the terminal that follows a step; in a pipe or a CI log, a line every 15 seconds."""

    look: Callable[[], str] | None

    def __init__(self, title: str) -> None:
        """Begin to count the time."""
        self.title, self.now, self.look = title, "begun", None
        self.begun, self.is_terminal = time.monotonic(), sys.stdout.isatty()

    def show(self, ending: str = "") -> None:
        """Write where the step is, which for some has to be looked up."""
        self.now = self.look() if self.look else self.now
        line = f"{self.title}: {self.now} ({time.monotonic() - self.begun:.0f} s)"
        width = shutil.get_terminal_size().columns - 1
        print(
            f"\r\033[K{line[:width]}" if self.is_terminal else line, end=ending or ("" if self.is_terminal else "\n"), flush=True
        )

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Show the step again and again until the block ends."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(1 if self.is_terminal else 15):
                self.show()

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()


def main(arguments: Sequence[str] = ()) -> None:
    """Make what is not current, one step after the other; with ``--tests``, also what only tests need."""
    if unknown := set(arguments) - {"--tests"}:
        raise StopError(f"{', '.join(sorted(unknown))} is not an option: --tests is the only one.")
    steps = (*STEPS, *STEPS_OF_TESTS) if arguments else STEPS
    if all(step.is_current() for step in steps):
        return
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with only_one():
        print(f"Setting up in {VENV.relative_to(PROJECT)}/ and {near(VAR)}/ (log: {near(LOG)})", flush=True)
        LOG.write_text("", encoding="utf-8")
        for number, step in enumerate(steps, start=1):
            progress = Progress(f"[{number}/{len(steps)}] {step.name}")
            done = "already there" if step.is_current() else made(step, progress)
            progress.now, progress.look = done, None
            progress.show(ending="\n")


def made(step: Step, progress: Progress) -> str:
    """Do a step, with its progress on the terminal."""
    if progress.is_terminal:
        progress.show()
    with progress.ticking():
        return step.make(progress)


@contextmanager
def only_one() -> Iterator[None]:
    """Two set-ups at a time would spoil each other's work."""
    with (LOG.parent / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is running: waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def near(path: Path) -> str:
    """A path as short as it can be said from the project's folder."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


def digest(*parts: bytes | str) -> str:
    """One value that changes when an input does."""
    return hashlib.sha256(b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts)).hexdigest()


def says(stamp: Path, expected: str) -> bool:
    """The stamp was left by a step with the same inputs."""
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == expected


def run(command: list[str | Path], otherwise: str, on_line: Callable[[str], None] = lambda line: None) -> None:
    """Run a command into the log; where it fails, stop with ``otherwise`` and the command's own last complaint."""
    complaint = ""
    given, piped = subprocess.DEVNULL, subprocess.PIPE
    with LOG.open("a", encoding="utf-8") as log:
        print("$", *command, file=log, flush=True)
        with subprocess.Popen(
            command, stdin=given, stdout=piped, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for line in process.stdout or ():
                log.write(line)
                on_line(line)
                complaint = line.strip() if COMPLAINT.search(line) else complaint
    if process.returncode != 0:
        raise StopError(f"{otherwise} The whole output is in {near(LOG)}; what went wrong: {complaint or 'it does not say'}")


# --- packages ---------------------------------------------------------------------------------------------------------

LOCK, BUILD_LOCK = SETUP / "requirements.lock", SETUP / "build.lock"
PIP: list[str | Path] = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input"]
PACKAGES_STAMP, PROJECT_STAMP, HALF_DONE = VENV / "packages.stamp", VENV / "project.stamp", VENV / "half-done"
NETWORK = "is this machine's package index reachable (PIP_INDEX_URL or pip.conf name another)? Then run this again."


def packages_inputs() -> str:
    """The path is one of them: a virtual environment does not work where it is moved to."""
    return digest(LOCK.read_bytes(), BUILD_LOCK.read_bytes(), sys.version, str(PROJECT))


def packages_are_current() -> bool:
    """The packages of today's lock are in the virtual environment."""
    return says(PACKAGES_STAMP, packages_inputs()) and not HALF_DONE.exists()


def install_packages(progress: Progress) -> str:
    """Install exactly what the lock names; every file is checked against the lock's hashes."""
    progress.now = "a virtual environment"
    make_venv()
    locked = re.findall(r"^([\w.-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    done: list[str] = []

    def follow(line: str) -> None:
        if found := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
            done.append(found[1])
            progress.now = f"fetched {len(done)} of {len(locked)}, now {found[1]}"
        elif line.startswith("Building wheels"):
            progress.now = f"building {line.split()[-1]}"
        elif line.startswith("Installing collected"):
            HALF_DONE.touch()  # an interruption before leaves the environment as it was
            progress.look = lambda: f"unpacked {min(len(list(SITE.glob('*.dist-info'))), len(locked))} of {len(locked)}"

    # Dependencies are all in the lock, and what builds packages comes from a lock too, not from pip's own choice.
    install = [*PIP, "install", "--require-hashes", "--no-deps", "--no-build-isolation", "--progress-bar", "off"]
    failed = f"The Python packages could not be installed: {NETWORK}"
    run([*install, "-r", BUILD_LOCK], failed)
    run([*install, "-r", LOCK], failed, follow)
    if surplus := installed() - {canonical(name) for name in [*locked, "pip", "setuptools", "footprint"]}:
        run([*PIP, "uninstall", "--yes", *sorted(surplus)], "Packages that the lock no longer names could not be removed.")
    PACKAGES_STAMP.write_text(packages_inputs(), encoding="utf-8")
    HALF_DONE.unlink(missing_ok=True)
    return f"{len(locked)} installed"


def make_venv() -> None:
    """A virtual environment that works stays; one that was half made, moved or made by another Python is made anew."""
    if not HALF_DONE.exists() and PYTHON.exists() and (VENV / "bin" / "pip").exists():
        ask = "import sys; print(sys.version, sys.prefix, sep='\\n', end='')"
        if subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True).stdout == f"{sys.version}\n{VENV}":
            return
    no_venv = "No virtual environment could be made: install Python's venv module (Debian: apt-get install python3.11-venv)."
    run([sys.executable, "-m", "venv", "--clear", VENV], no_venv)


def installed() -> set[str]:
    """Names of the packages in the virtual environment."""
    listed = subprocess.run([*PIP, "list", "--format", "json"], capture_output=True, text=True, check=True).stdout
    return {canonical(package["name"]) for package in json.loads(listed)}


def canonical(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# --- the project itself -----------------------------------------------------------------------------------------------


def project_inputs() -> str:
    """What pyproject.toml says of the package, and nothing of the linters."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return digest(packages_inputs(), json.dumps([declared["project"], declared["tool"]["setuptools"]], sort_keys=True))


def install_project(progress: Progress) -> str:
    """Put the project's own packages on the path, and its command into the virtual environment."""
    progress.now = "installing"
    install = [*PIP, "install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", PROJECT]
    run(install, "The project itself could not be installed: is pyproject.toml as it should be?")
    PROJECT_STAMP.write_text(project_inputs(), encoding="utf-8")
    return ".venv/bin/footprint"


# --- Java -------------------------------------------------------------------------------------------------------------


def link_java(progress: Progress) -> str:
    """Find a Java that Spark runs on, else install one where that is possible, and link var/java to it."""
    progress.now = "looking for one"
    home = find_java() or install_java(progress)
    if home is None:
        raise StopError(
            "Spark needs Java 17 or 21 and none was found: install one (Debian and Ubuntu: apt-get install"
            " openjdk-17-jre-headless) or set JAVA_HOME to one, then run this again."
        )
    JAVA.unlink(missing_ok=True)
    JAVA.symlink_to(home)
    return f"{java_version(home)}, linked as {near(JAVA)}"


def find_java() -> Path | None:
    """JAVA_HOME, then the PATH, then where systems put theirs; the first that is of a version Spark runs on."""
    on_path = shutil.which("java")
    places = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    places += [Path(on_path).resolve().parent.parent] if on_path else []
    places += [home for place in JAVA_PLACES for home in sorted(Path("/").glob(place))]
    return next((home.resolve() for home in places if home != JAVA and java_version(home) in JAVA_VERSIONS), None)


def java_version(home: Path) -> int | None:
    """17 for Java 17; None where there is no Java that starts."""
    try:
        said = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else None


def install_java(progress: Progress) -> Path | None:
    """Install Java by apt where that is possible."""
    apt = apt_get()
    if apt is None:
        return None
    for version in JAVA_VERSIONS:
        package = f"openjdk-{version}-jre-headless"
        progress.now = f"installing {package} by apt"
        try:
            run([*apt, "update"], "")
            run([*apt, "install", "--no-install-recommends", package], "")
        except StopError:
            continue  # a release of Debian has one of the versions only; find_java says what is there
    return find_java()


def apt_get() -> list[str | Path] | None:
    """How apt is called where there is one and nobody has to be asked for a password."""
    may = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (may and subprocess.run([*may, "true"], capture_output=True).returncode != 0):
        return None
    return [*may, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y"]


# --- Delta's JARs -----------------------------------------------------------------------------------------------------


def expected_jars() -> dict[str, str]:
    """The JARs by name, each with the SHA-256 it must have."""
    lines = (SETUP / "jars.sha256").read_text(encoding="utf-8").splitlines()
    return {name: expected for expected, name in (line.split() for line in lines)}


def is_genuine(jar: Path, expected: str) -> bool:
    """The file is there and has the bytes we know."""
    return jar.is_file() and digest(jar.read_bytes()) == expected


def jars_are_current() -> bool:
    """All JARs are there; they are small enough to be checked each time."""
    return all(is_genuine(JARS / name, expected) for name, expected in expected_jars().items())


def resolve_jars(progress: Progress) -> str:
    """Have Spark resolve Delta once, as `spark.jars.packages` would at every start, and keep the two files it needs."""
    progress.now = "resolving"
    cache = VAR / "ivy"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    (cache / "nothing.py").touch()
    coordinates = [":".join(["io.delta", *name.removesuffix(".jar").rsplit("-", 1)]) for name in expected_jars()]
    settings = {
        "spark.master": "local[1]",
        "spark.jars.packages": ",".join(coordinates),
        "spark.jars.excludes": ",".join(NOT_DELTAS_OWN),
        "spark.jars.ivy": cache,
        # A half-filled Maven cache in the home folder makes Ivy fail: look for none.
        "spark.driver.extraJavaOptions": f"-Duser.home={cache}",
    }
    options: list[str | Path] = [text for name, value in settings.items() for text in ("--conf", f"{name}={value}")]
    try:
        run([*spark_submit(), *options, cache / "nothing.py"], by_hand("could not be fetched"))
        keep_jars(cache / "jars")
    finally:
        shutil.rmtree(cache)
    return f"{len(coordinates)} with the checksums expected"


def spark_submit() -> list[str | Path]:
    """Spark's own launcher, with the Java and the Spark of this set-up."""
    spark = SITE / "pyspark"
    where = {"JAVA_HOME": JAVA, "SPARK_HOME": spark, "PYSPARK_PYTHON": PYTHON}
    return ["env", *[f"{name}={value}" for name, value in where.items()], spark / "bin" / "spark-submit"]


def keep_jars(fetched: Path) -> None:
    """Take over each JAR whose checksum is the one we know."""
    JARS.mkdir(exist_ok=True)
    for name, expected in expected_jars().items():
        jar = fetched / f"io.delta_{name}"
        if not is_genuine(jar, expected):
            raise StopError(by_hand("were fetched, but have not the SHA-256 expected"))
        jar.replace(JARS / name)


def by_hand(what: str) -> str:
    """The remedy for a machine that cannot fetch from where Spark looks."""
    remedy = f"check the network, or put the files named in .setup/jars.sha256 into {near(JARS)}/"
    return f"Delta's JARs {what}: {remedy}; then run this again."


# --- Java's class archive ---------------------------------------------------------------------------------------------

ARCHIVE_STAMP = JARS / "classes.stamp"


def archive_inputs() -> str:
    """An archive serves the Java and the JARs it was made with, and no other."""
    return digest(str(JAVA.resolve()), (JAVA / "release").read_bytes(), LOCK.read_bytes(), *expected_jars().values())


def archive_classes(progress: Progress) -> str:
    """Archive the classes that Spark and Delta load, so that every later start loads them in half the time."""
    progress.now = "running a small job"
    run(
        [PYTHON, "-m", "jobs.spark"],
        "Spark could not be started to archive Java's classes: look into the log; then run this again.",
    )
    ARCHIVE_STAMP.write_text(archive_inputs(), encoding="utf-8")
    return near(ARCHIVE_STAMP.parent)


# --- compiled readers -------------------------------------------------------------------------------------------------

COMPILED_STAMP = VAR / "compiled.stamp"
COMPILED = ("jobs/readers/charging_walk.py", "jobs/readers/charging_tags.py", "jobs/demo/ber.py", "jobs/warm.py")


def compiled_inputs() -> str:
    """Machine code serves the source and the compiler it was made from, on the processor it was made for."""
    return digest(LOCK.read_bytes(), platform.machine(), *((PROJECT / name).read_bytes() for name in COMPILED))


def compile_readers(progress: Progress) -> str:
    """Compile what reads binary records, so that no run waits for it."""
    progress.now = "compiling"
    run(
        [PYTHON, "-m", "jobs.warm"],
        "The readers of binary records could not be compiled: look into the log; then run this again.",
    )
    COMPILED_STAMP.write_text(compiled_inputs(), encoding="utf-8")
    return "machine code beside the modules"


# --- Airflow's metadata -----------------------------------------------------------------------------------------------

AIRFLOW_STAMP = VAR / "airflow" / "metadata.stamp"


def airflow_inputs() -> str:
    """A new version of Airflow may change its tables."""
    version = re.findall(r"^apache-airflow-core==\S+", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return digest(*version)


def make_airflow_metadata(progress: Progress) -> str:
    """Make or migrate the small database in which Airflow keeps its runs."""
    progress.now = "migrating"
    AIRFLOW_STAMP.parent.mkdir(mode=0o700, exist_ok=True)  # Airflow keeps the keys of its own web interface there
    migrate = f"cd '{PROJECT}' && . .setup/environment && exec airflow db migrate"
    run(
        ["sh", "-c", migrate], f"Airflow's database could not be made: move {near(AIRFLOW_STAMP.parent)} away and run this again."
    )
    AIRFLOW_STAMP.write_text(airflow_inputs(), encoding="utf-8")
    return near(AIRFLOW_STAMP.parent)


# --- a browser, for tests of pages ---------------------------------------------------------------------------------------


def browser_is_current() -> bool:
    """There is one, or none can be installed: tests that need one are skipped then, and say so."""
    return shutil.which("chromium") is not None or apt_get() is None


def install_browser(progress: Progress) -> str:
    """Install Debian's Chromium by apt. No figure depends on it, so that a machine that cannot have it is set up without."""
    progress.now = "installing chromium by apt"
    apt = apt_get() or []
    try:
        run([*apt, "update"], "")
        run([*apt, "install", "--no-install-recommends", "chromium"], "")
    except StopError:
        return f"chromium could not be installed, tests of pages are skipped (look into {near(LOG)})"
    return "chromium"


STEPS = (
    Step("Python packages", packages_are_current, install_packages),
    Step("Project", lambda: says(PROJECT_STAMP, project_inputs()), install_project),
    Step("Java", lambda: os.access(JAVA / "bin" / "java", os.X_OK), link_java),
    Step("Delta's JARs", jars_are_current, resolve_jars),
    Step("Java's class archive", lambda: says(ARCHIVE_STAMP, archive_inputs()), archive_classes),
    Step("Compiled readers", lambda: says(COMPILED_STAMP, compiled_inputs()), compile_readers),
    Step("Airflow's metadata", lambda: says(AIRFLOW_STAMP, airflow_inputs()), make_airflow_metadata),
)

STEPS_OF_TESTS = (Step("Browser", browser_is_current, install_browser),)

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (StopError, OSError) as error:
        sys.exit(f"\nSet-up stopped. {error}")
    except KeyboardInterrupt:
        sys.exit("\nSet-up was interrupted; run it again and it goes on.")
