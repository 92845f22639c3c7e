"""A headless Chromium that tests drive over its debugging pipe."""

import itertools
import json
import os
import shutil
import subprocess
import threading

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
        for domain in ("Network", "Runtime"):
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

    def call(self, method, **params):
        """Call a method of the protocol and return its result, noting what the page does meanwhile."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (message := self._message()).get("id") != number:
            self._note(message.get("method"), message.get("params"))
        return message["result"]

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
