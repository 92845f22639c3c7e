"""A headless Chromium that tests drive over its debugging pipe."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1200,900",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
SECONDS = 120  # after which it is ended, whatever it does


class Browser:
    """Chromium with one page and no network but this machine, which notes all that the page asks for.

    Attributes
    ----------
    asked : list of str
        Addresses.
    failed : list of str
        Of requests, why each failed; and errors of scripts.
    """

    def __init__(self, profile):
        self.asked, self.failed, self._buffer, self._numbers = [], [], b"", itertools.count(1)
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        its_pipes = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", its_pipes, "bash", *command], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._end = threading.Timer(SECONDS, self._process.kill)
        self._end.daemon = True
        self._end.start()
        self._session = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._end.cancel()
        os.close(self._to)
        os.close(self._from)

    def open(self, address):
        self.call("Page.navigate", url=address)

    def value(self, expression):
        """Return what an expression of JavaScript comes to in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def awaited(self, expression):
        """Return what the promise that an expression of JavaScript is comes to."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return done["result"].get("value")

    def wait_for(self, expression):
        """Return what an expression comes to, once that is true."""
        deadline = time.monotonic() + SECONDS / 2
        while not (value := self.value(expression)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert value, f"{expression} has not become true"
        return value

    # --- what a person does

    def look(self, width=1200, height=900, dark=False, mobile=False):
        """Set the size of the window, and whether the person prefers dark pages."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def place(self, selector, x=0.5, y=0.5):
        """Scroll an element into view and return a place in it, from (0, 0) to (1, 1), in pixels of the window."""
        script = """(() => {
            const found = document.querySelector(%s);
            found.scrollIntoView({ block: "center", behavior: "instant" });
            const { left, top, width, height } = found.getBoundingClientRect();
            return [left, top, width, height];
        })()"""
        left, top, width, height = self.value(script % json.dumps(selector))
        return left + x * width, top + y * height

    def drag(self, points, touch=False):
        """Press the mouse, or put a finger down, at the first point of the window and release it at the last."""
        if touch:
            self._send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[_point(points[0])])
            for point in points[1:]:
                self._send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[_point(point)])
            self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self._send("Input.dispatchMouseEvent", type="mousePressed", **_point(points[0]), **held)
        for point in points[1:]:
            self._send("Input.dispatchMouseEvent", type="mouseMoved", **_point(point), **held)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **_point(points[-1]), button="left", clickCount=1)

    def click(self, selector, x=0.5, y=0.5):
        self.drag([self.place(selector, x, y)])

    def press(self, key, text=""):
        """Press and release a key, named as KeyboardEvent.key does."""
        code = {"Enter": 13, " ": 32, "Tab": 9, "Delete": 46}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            typed = {"key": key, "text": text * (kind == "keyDown"), "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type=kind, **typed)

    def screenshot(self, path):
        """Write the whole page to a .png file."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    # --- the protocol

    def call(self, method, **params):
        """Call a method of the protocol and return its result, noting what the page does meanwhile."""
        number = self._send(method, **params)
        while (message := self._message()).get("id") != number:
            self._note(message.get("method"), message.get("params"))
        assert "result" in message, f"{method}: {message}"
        return message["result"]

    def _send(self, method, **params):
        """Call a method of the protocol without waiting for its result; return the number of the call."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return number

    def _message(self):
        while b"\0" not in self._buffer:
            more = os.read(self._from, 1 << 16)
            if not more:
                raise EOFError("the browser has ended")
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event, params):
        if event == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif event == "Network.loadingFailed":
            self.failed.append(params["errorText"])
        elif event == "Network.responseReceived" and params["response"]["status"] >= 400:
            self.failed.append(f"{params['response']['status']} {params['response']['url']}")
        elif event == "Runtime.exceptionThrown":
            self.failed.append(str(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":  # such as what a policy forbids
            self.failed.append(params["entry"]["text"])


def _point(point):
    return {"x": point[0], "y": point[1]}
