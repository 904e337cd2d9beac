"""The page in a real browser: nothing in the console, no other host asked, legible at the width of a phone and of a desk.

Needs ``chromium`` on the PATH (Debian: apt-get install chromium); nothing is installed here. The pictures go to
``var/screenshots`` for whoever wants to look at them.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jobs.run import PROJECT, Settings
from tests.test_portal import connection, served, settings, token_of

__all__ = ["connection", "served", "settings"]

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page was not looked at in a browser"),
]
SIZES = [(1280, 900), (390, 844)]


class Browser:
    """One page of a headless Chromium, spoken to in its DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.events, self.number = socket, [], 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def open(self, address: str, width: int, height: int, scheme: str = "light") -> None:
        self.events.clear()
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)
        until = time.monotonic() + 60
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            assert time.monotonic() < until, "the page was not loaded"
            self.evaluate("1")
            time.sleep(0.05)
        time.sleep(0.3)  # what the page would ask for afterwards
        self.evaluate("1")

    def complaints(self) -> list[object]:
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [event["params"] for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]

    def picture(self, name: str) -> None:
        folder = PROJECT / "var" / "screenshots"
        folder.mkdir(parents=True, exist_ok=True)
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"]
        (folder / f"{name}.png").write_bytes(base64.b64decode(taken))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    client = pytest.importorskip("websockets.sync.client")
    profile = tmp_path_factory.mktemp("chromium")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    process = subprocess.Popen(
        [CHROMIUM, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    try:
        port_file, until = profile / "DevToolsActivePort", time.monotonic() + 90
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert process.poll() is None, "chromium ended"
            assert time.monotonic() < until, "chromium did not start"
            time.sleep(0.1)
        port, path = port_file.read_text().splitlines()[:2]
        with client.connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
            whole = Browser(socket)
            target = whole.call("Target.createTarget", url="about:blank")["targetId"]
        with client.connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", max_size=None) as socket:
            page = Browser(socket)
            for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
                page.call(f"{domain}.enable")
            yield page
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_page_fits_complains_of_nothing_and_asks_no_other_host(
    settings: Settings, connection: psycopg.Connection, served: int, browser: Browser, width: int, height: int, scheme: str
):
    ours = f"http://127.0.0.1:{served}/"
    browser.open(f"{ours}?token={token_of(settings, 'ana')}&lang=fr&month=2026-08", width, height, scheme)
    browser.picture(f"portal-{width}-{scheme}")

    assert browser.complaints() == []
    assert {url.split("?")[0] for url in browser.requests()} <= {ours, "data:,"}
    assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.evaluate("window.innerWidth") == width
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    assert dark == (scheme == "dark")
    too_small = "[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().height < 12).length"
    assert browser.evaluate(too_small) == 0
    outside = """[...document.querySelectorAll('svg text')].filter(t => { const box = t.getBoundingClientRect(),
        whole = t.ownerSVGElement.getBoundingClientRect();
        return box.left < whole.left - 1 || box.right > whole.right + 1 }).length"""
    assert browser.evaluate(outside) == 0


def test_a_screen_reader_is_told_all_of_it(settings: Settings, connection: psycopg.Connection, served: int, browser: Browser):
    browser.open(f"http://127.0.0.1:{served}/?token={token_of(settings, 'ana')}&lang=fr", 1280, 900)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    told = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), node.get("description", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]

    def names(role: str) -> list[str]:
        return [name for found, name, _ in told if found == role]

    assert browser.evaluate("document.documentElement.lang") == "fr"
    assert len(names("main")) == 1
    assert names("heading")[:2] == ["Vos données et leur équivalent en émissions", "Votre consommation\u00a0: octobre 2026"]
    picture = [name for role, name, _ in told if role in ("image", "img")]
    assert len(picture) == 1
    assert "Une barre par mois" in picture[0]
    assert len(names("rowheader")) == 13
    assert len(names("columnheader")) == 4
    assert names("radio") == ["Oui", "Non"]
    assert all(name for role, name, _ in told if role in ("link", "button", "combobox", "radio", "table", "region"))


def test_an_answer_is_sent_and_thanked_for_under_the_policy(
    settings: Settings, connection: psycopg.Connection, served: int, browser: Browser
):
    browser.open(f"http://127.0.0.1:{served}/?token={token_of(settings, 'ana')}&lang=fr", 390, 844)
    browser.evaluate("document.querySelector('[value=yes]').click(); document.querySelector('button').click()")
    until = time.monotonic() + 30
    while "Merci" not in str(browser.evaluate("document.body.innerText")):
        assert time.monotonic() < until, "nobody said thank you"
        time.sleep(0.1)

    assert browser.complaints() == []
    assert connection.execute("SELECT answer FROM footprint.feedback").fetchall() == [("yes",)]
