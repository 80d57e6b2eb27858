"""What the stories need beside their clients: an S3 server, volume groups, daemons."""

import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import tempfile
import time

FIXTURES = pathlib.Path(__file__).resolve().parent.parent
PATIENCE_S = 120


class Failed(Exception):
    """Something is not as it has to be."""


def check(is_so: bool, what: str) -> None:
    if not is_so:
        raise Failed(what)


def until(what: str, ask):
    """Asks until the answer is something, for a while."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = ask()
        if answer:
            return answer
        check(time.monotonic() < deadline, f"not in {PATIENCE_S} s: {what}")
        time.sleep(0.1)


def run(*command, **more) -> str:
    """A command's output; its errors end the story."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **more)
    check(done.returncode == 0, f"{command}: {done.stderr or done.stdout}")
    return done.stdout


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """versitygw on a disk of its own, with the bucket `backups`."""

    PORT = 9000

    def __init__(self, home: pathlib.Path, disk: str):
        self.secret = secrets.token_hex(16)
        self.mount = home / "s3"
        self.mount.mkdir()
        run("mkfs.ext4", "-q", disk)
        run("mount", disk, self.mount)  # versitygw needs extended attributes
        (self.mount / "data" / "backups").mkdir(parents=True)
        env = dict(os.environ, ROOT_ACCESS_KEY="story", ROOT_SECRET_KEY=self.secret)
        with open(home / "s3.log", "w") as log:
            command = [FIXTURES / "s3-server", "versitygw", self.mount, str(self.PORT)]
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        until("the S3 server answers", lambda: answers(self.PORT))

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        run("umount", self.mount)


class Group:
    """A volume group on a file."""

    def __init__(self, home: pathlib.Path, name: str):
        self.name = name
        self.disk = home / f"{name}.disk"
        with open(self.disk, "wb") as disk:
            disk.truncate(2 << 30)
        self.device = run("losetup", "-f", "--show", self.disk).strip()
        run("vgcreate", "--quiet", name, self.device)

    def volumes(self) -> list[str]:
        names = run("lvs", "--noheadings", "-o", "lv_name", self.name).split()
        return [name for name in names if not name.startswith("pool")]

    def end(self) -> None:
        run("vgremove", "--quiet", "--force", "--yes", self.name)
        run("losetup", "-d", self.device)
        self.disk.unlink()


class Daemon:
    """`stockpot serve` with a gateway on a port of this host, for clients that can show nothing."""

    def __init__(self, home: pathlib.Path, binaries: pathlib.Path, server: Server, group: Group, port: int):
        self.home = home / group.name
        self.binaries = binaries
        self.group = group
        self.port = port
        (self.home / "profiles").mkdir(parents=True)
        self.write(home, server)
        self.log = open(self.home / "log", "w")
        self.process = subprocess.Popen(
            [binaries / "stockpot", "serve", "--config", self.home / "config.yaml"], stdout=self.log, stderr=self.log
        )
        until("the gateway answers", lambda: self.process.poll() is not None or answers(port))
        check(self.process.poll() is None, "the daemon ended: " + self.told())
        self.csi("--wait", "60", "info")

    def write(self, home: pathlib.Path, server: Server) -> None:
        key = home / "key"  # the same for both: it is the repository's
        if not key.exists():
            key.write_text(secrets.token_hex(32) + "\n")
            key.chmod(0o600)
        (self.home / "key").write_text(key.read_text())
        credentials = f"[default]\naws_access_key_id = story\naws_secret_access_key = {server.secret}\n"
        (self.home / "credentials").write_text(credentials)
        for name in ("key", "credentials"):
            (self.home / name).chmod(0o600)
        topology = {
            "bucket": "backups", "prefix": "nightlybackups", "endpoint": f"http://127.0.0.1:{server.PORT}",
            "region": "us-east-1", "credentials": {"file": "credentials"}, "key": {"file": "key"},
        }
        # JSON is YAML.
        profile = {"name": "offsite", "snapshotProperties": {"topology": topology}}
        (self.home / "profiles" / "offsite.yaml").write_text(json.dumps(profile))
        pool = {
            "name": "thin", "driver": "lvm-thin", "volumeGroup": self.group.name, "thinPool": "pool",
            "poolSizeBytes": 1610612736,
        }
        config = {
            "nodeName": f"node-{self.group.name}",
            "stateDir": str(self.home / "state"),
            "socket": str(self.home / "manager.sock"),
            "profilesDir": str(self.home / "profiles"),
            "credentialsDir": str(self.home),
            "pools": [pool],
            # What the plugin of OpenEBS takes and gives.
            "streams": {"allowedDestinations": ["127.0.0.1/32:9001", "127.0.0.1/32:9010"]},
            "csi": {"endpoint": f"unix://{self.home}/csi.sock"},
            "gateway": {
                "listen": [f"127.0.0.1:{self.port}"],
                "authentication": {"allowWithoutAuthentication": ["127.0.0.0/8"]},
            },
        }
        (self.home / "config.yaml").write_text(json.dumps(config))

    def csi(self, *words) -> str:
        return run(self.binaries / "csi-client", "--endpoint", f"unix://{self.home}/csi.sock", *words)

    def told(self) -> str:
        self.log.flush()
        return "\n".join((self.home / "log").read_text().splitlines()[-40:])

    def end(self) -> None:
        self.process.terminate()
        code = self.process.wait(60)
        self.log.close()
        check(code == 0, f"the daemon ended with {code}: " + (self.home / "log").read_text()[-2000:])


class OnThisHost:
    """An S3 server, a daemon, and its volumes as this host mounts them by CSI."""

    def __init__(self, home: pathlib.Path, binaries: pathlib.Path):
        self.home = home
        self.binaries = binaries
        self.server = Server(home, "/dev/ubda")
        self.groups = [Group(home, "one")]
        self.daemon = Daemon(home, binaries, self.server, self.groups[0], 8776)

    def end(self) -> None:
        self.daemon.end()
        for group in self.groups:
            group.end()
        self.server.end()

    def place(self, name: str) -> pathlib.Path:
        place = self.home / "mounts" / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def file(self, mount: str, name: str) -> pathlib.Path:
        return self.place(mount) / name

    def mount(self, volume: str, name: str) -> None:
        stage, target = self.place(f"stage-{name}"), self.place(name)
        self.daemon.csi("stage", volume, stage, "--fs", "ext4")
        self.daemon.csi("publish", volume, stage, target, "--fs", "ext4")

    def unmount(self, volume: str, name: str) -> None:
        self.daemon.csi("unpublish", volume, self.place(name))
        self.daemon.csi("unstage", volume, self.place(f"stage-{name}"))

    def write(self, mount: str, name: str, size_mib: int) -> None:
        """A file whose content is known, on disk."""
        source = self.home / f"{name}.data"
        if not source.exists():
            run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={size_mib}")
        self.file(mount, name).write_bytes(source.read_bytes())
        run("sync", "-f", self.file(mount, name))

    def same(self, mount: str, name: str) -> None:
        kept = (self.home / f"{name}.data").read_bytes()
        check(self.file(mount, name).read_bytes() == kept, f"{name} on {mount} differs")


def say(what: str) -> None:
    print(f"== {what}", flush=True)


def play(story, done: str) -> int:
    """Tells a story with the arguments of the command line; the exit code."""
    binaries, more = pathlib.Path(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="gateway-clients-", ignore_cleanup_errors=True) as home:
        told = None
        try:
            told = story(pathlib.Path(home), binaries, *more)
            told.tell()
            told.end()
        except Failed as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            if told:
                print(told.daemon.told(), file=sys.stderr)
            return 1
    print(done)
    return 0
