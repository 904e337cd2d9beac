"""Airflow's scheduler, triggerer and web interface in the foreground, on the same DAGs and the same metadata as make run."""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

ADDRESS = os.environ["AIRFLOW__API__BASE_URL"]
LOG = Path(os.environ["AIRFLOW_HOME"]).parent / "log" / "airflow.log"
SECONDS_TO_START, SECONDS_TO_END = 180, 20


def main() -> None:
    """Start it, say when it is ready, wait for Ctrl-C, end all of it."""
    host, port = os.environ["AIRFLOW__API__HOST"], int(os.environ["AIRFLOW__API__PORT"])
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            sys.exit(f"Port {port} is taken by another program: end that, or run make airflow AIRFLOW_PORT=8081.")
    LOG.parent.mkdir(parents=True, exist_ok=True)
    print(f"Starting Airflow (its output: {os.path.relpath(LOG)}), about half a minute.", flush=True)
    with LOG.open("w", encoding="utf-8") as log:
        airflow = subprocess.Popen(["airflow", "standalone"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, process_group=0)
    try:
        wait_until_ready(airflow)
        print(
            f"Airflow is ready: {ADDRESS} (no password; this machine only). DAGs are paused: nothing fires by itself.", flush=True
        )
        print("Unpause monthly_footprint to have it scheduled, or trigger it with usage_month. Ctrl-C ends Airflow.", flush=True)
        airflow.wait()
    except KeyboardInterrupt:
        print("\nEnding Airflow.", flush=True)
    finally:
        end(airflow)
    if airflow.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"Airflow ended by itself; the reason is at the end of {os.path.relpath(LOG)}.")


def wait_until_ready(airflow: subprocess.Popen[bytes]) -> None:
    """Return when the web interface answers, or when there is nothing to wait for any more."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + SECONDS_TO_START
    while airflow.poll() is None and time.monotonic() < deadline:
        try:
            with direct.open(f"{ADDRESS}/api/v2/version", timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise SystemExit(f"Airflow did not start; the reason is at the end of {os.path.relpath(LOG)}.")


def end(airflow: subprocess.Popen[bytes]) -> None:
    """Ask it to end with its parts, then end what is left."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.kill(airflow.pid, signal.SIGINT)  # the only signal after which `airflow standalone` ends its parts
        airflow.wait(SECONDS_TO_END)
    with suppress(ProcessLookupError):
        os.killpg(airflow.pid, signal.SIGKILL)
    airflow.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
