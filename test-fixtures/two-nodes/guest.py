"""A host of the test: a guest of the test host that does what it is told."""

import os
import pathlib
import signal
import subprocess
import time

FIXTURES = pathlib.Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A step did not do what it has to."""


class Guest:
    """A booted host. Commands run one after the other; each is a script of bash."""

    def __init__(self, name: str, home: pathlib.Path, address: str, options: list[str]):
        self.name = name
        self.home = home
        self.address = address
        self.options = options
        self.boots = 0
        self.process = None

    def boot(self, timeout: int) -> None:
        self.boots += 1
        self.number = 0
        self.orders = self.home / f"{self.name}-{self.boots}"
        self.orders.mkdir()
        self.pidfile = self.orders / "pid"
        command = [
            FIXTURES / "testhost", "run", "--mem", "1G", "--net", self.address, "--timeout", str(timeout),
            "--pidfile", self.pidfile, "--log", self.orders / "kernel.log", *self.options, "--",
            FIXTURES / "guest-agent", self.orders,
        ]
        with open(self.orders / "testhost.log", "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start(self, script: str) -> int:
        """Hands a script over; its number."""
        number = self.number
        self.number += 1
        new = self.orders / f"{number}.new"
        new.write_text("set -euo pipefail\n" + script)
        new.rename(self.orders / f"{number}.sh")
        return number

    def wait(self, number: int, timeout: float) -> tuple[int, str]:
        """A script's exit code and output."""
        code = self.orders / f"{number}.rc"
        deadline = time.monotonic() + timeout
        while not code.exists():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} is gone: " + (self.orders / "testhost.log").read_text()[-1000:])
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: no end after {timeout} s of:\n{self.text(number)}")
            time.sleep(0.03)
        return int(code.read_text()), self.text(number)

    def text(self, number: int) -> str:
        out = self.orders / f"{number}.out"
        return out.read_text(errors="replace") if out.exists() else ""

    def run(self, script: str, timeout: float = 60) -> str:
        """Runs a script that has to succeed; what it printed."""
        code, text = self.wait(self.start(script), timeout)
        if code != 0:
            raise Failed(f"{self.name}: exit code {code} of:\n{script}\n{text[-3000:]}")
        return text.strip()

    def fails(self, script: str, timeout: float = 60) -> str:
        """Runs a script that has to fail; what it printed."""
        code, text = self.wait(self.start(script), timeout)
        if code == 0:
            raise Failed(f"{self.name}: it was not refused:\n{script}\n{text[-3000:]}")
        return text.strip()

    def crash(self) -> None:
        """Pulls the plug."""
        os.kill(int(self.pidfile.read_text()), signal.SIGKILL)
        self.process.wait(timeout=30)
        self.process = None

    def end(self) -> None:
        if self.process is None:
            return
        (self.orders / "end").touch()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(timeout=30)
        self.process = None
