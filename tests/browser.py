"""Chromium for tests, spoken to through a pipe in its DevTools protocol: no driver and no package is needed.

See https://chromedevtools.github.io/devtools-protocol/ for the methods.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


class Browser:
    """One page in a headless browser.

    Args:
        folder: Where the browser keeps its profile and puts downloads.
    """

    def __init__(self, folder: Path) -> None:
        ours_read, theirs_write = os.pipe()
        theirs_read, ours_write = os.pipe()
        self.downloads = folder / "downloads"
        options = f"--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir={folder}/profile"
        quiet = "--disable-background-networking --disable-component-update --no-first-run --mute-audio"
        # The protocol is read from descriptor 3 and written to descriptor 4.
        script = f'exec "$0" {options} {quiet} --remote-debugging-pipe about:blank 3<&{theirs_read} 4>&{theirs_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, PROGRAM], pass_fds=(theirs_read, theirs_write), stderr=subprocess.DEVNULL
        )
        os.close(theirs_read)
        os.close(theirs_write)
        self._read, self._write, self._buffer, self._number = ours_read, ours_write, b"", 0
        self.requests: list[str] = []
        self._session: str | None = None
        target = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for what it answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60.0)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']['message']}"
                return answer["result"]

    def _next(self, seconds: float) -> dict[str, Any]:
        """The next message; requests of the network are noted on the way."""
        until = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser said nothing for {seconds:g} s"
            got = os.read(self._read, 1 << 20)
            assert got, "the browser ended"
            self._buffer += got
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        return message

    def open(self, address: str, *, width: int = 1280, height: int = 900, phone: bool = False) -> None:
        """Open a page at a size of window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript on the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 60.0) -> Any:
        """Wait until an expression is true; its value."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if value := self.run(condition):
                return value
            time.sleep(0.02)
        raise AssertionError(f"not so after {seconds:g} s: {condition}\n{self.run('document.body.innerText')[:2000]}")

    def choose_files(self, selector: str, *files: Path) -> None:
        """Give files to an input, as a person who drops them does."""
        found = self.send("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.send("DOM.setFileInputFiles", objectId=found["result"]["objectId"], files=[str(file) for file in files])

    def click(self, selector: str) -> None:
        """Press what a selector finds."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def slide(self, selector: str, value: float) -> None:
        """Move a slider to a value."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {value};"
            "e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
