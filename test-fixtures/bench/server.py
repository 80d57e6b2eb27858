"""The S3 server that all clients of a benchmark talk to, and what it cost."""

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time

BUCKET = "bench"


class Server:
    """versitygw on a free loopback port, its bucket in a directory below `work`."""

    def __init__(self, binary, work: pathlib.Path):
        self.bucket = work / "s3" / BUCKET
        self.bucket.mkdir(parents=True)
        self.log = work / "requests.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.access, self.secret = "bench", secrets.token_hex(16)
        self.process = subprocess.Popen(
            [binary, "--quiet", "--port", f"127.0.0.1:{self.port}", "--access-log", self.log, "posix", work / "s3"],
            env={**os.environ, "ROOT_ACCESS_KEY": self.access, "ROOT_SECRET_KEY": self.secret},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{binary} did not start")
            time.sleep(0.05)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self):
        """For clients: everything they need to find the bucket, and nothing that changes how they work."""
        return {**os.environ, "AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret,
                "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.endpoint,
                "AWS_EC2_METADATA_DISABLED": "true"}

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def requests(self) -> int:
        if not self.log.exists():
            return 0
        with self.log.open("rb") as log:
            return sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b""))

    def stored_bytes(self, prefix: str) -> int:
        path = self.bucket / prefix
        if path.is_file():
            return path.stat().st_size
        return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())

    def drop(self, prefix: str) -> None:
        path = self.bucket / prefix
        if path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
