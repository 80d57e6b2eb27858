"""What OpenEBS's plugin for Velero asks of cStor by HTTP; started by `run` in a guest of the test host.

usage: cstor.py BINARIES
"""

import http.client
import json
import pathlib
import socket
import sys
import threading
import time

from parts import OnThisHost, check, play, run, say, until

NAMESPACE = "shop"
# Where the plugin takes backups, and where it gives what it has stored.
TAKES, GIVES = 9001, 9010


class Plugin:
    """Calls to one daemon, and the two ends of streams."""

    def __init__(self, port: int):
        self.port = port

    def call(self, method: str, path: str, document=None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        check(answer.status == 200, f"{method} {path}: {answer.status} {text}")
        return text

    def backup(self, volume: str, schedule: str, snap: str, to: str, **more) -> dict:
        """A backup from the question to its end, done."""
        spec = {
            "backupName": schedule, "volumeName": volume, "snapName": snap, "prevSnapName": "", "backupDest": to,
            "localSnap": False, "disableIncrementalBackups": False, "pluginField": "kept", **more,
        }
        document = {"metadata": {"namespace": NAMESPACE, "creationTimestamp": None}, "spec": spec, "status": ""}
        self.call("POST", "/latest/backups/", document)

        def look():
            now = json.loads(self.call("GET", "/latest/backups/", document))
            check(now["status"] not in ("Failed", "Invalid"), f"{now}")
            return now if now["status"] == "Done" else None

        done = until(f"{snap} is backed up", look)
        check(done["spec"]["pluginField"] == "kept", f"{done}")
        return done["spec"]

    def clean_up(self, volume: str, schedule: str, snap: str, more: str = "") -> None:
        self.call("DELETE", f"/latest/backups/{snap}?namespace={NAMESPACE}&schedule={schedule}&volume={volume}{more}")

    def restore(self, volume: str, snap: str, source: str, **more) -> None:
        spec = {
            "restoreName": snap, "volumeName": volume, "restoreSrc": source, "maxretrycount": 0, "retrycount": 0,
            "storageClass": "standard", "size": "0", "localRestore": False, **more,
        }
        document = {"metadata": {"namespace": NAMESPACE}, "spec": spec, "status": ""}
        self.call("POST", "/latest/restore/", document)

        def is_done() -> bool:
            now = json.loads(self.call("GET", "/latest/restore/", document))
            check(now not in ("Failed", "Invalid"), f"{volume}: {now}")
            return now == "Done"

        until(f"{volume} is restored", is_done)


class Port(threading.Thread):
    """Takes one connection and puts what comes into a file, or gives it one."""

    def __init__(self, port: int, file: pathlib.Path, gives: bool):
        super().__init__(daemon=True)
        self.file, self.gives = file, gives
        self.listener = socket.create_server(("127.0.0.1", port))
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, self.listener:
            if self.gives:
                with open(self.file, "rb") as file:
                    connection.sendfile(file)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)  # until it has all
                return
            with open(self.file, "wb") as file:
                while part := connection.recv(1 << 20):
                    file.write(part)


class Story(OnThisHost):
    def __init__(self, home: pathlib.Path, binaries: pathlib.Path):
        super().__init__(home, binaries)
        self.plugin = Plugin(self.daemon.port)

    def tell(self) -> None:
        say("a volume in use")
        self.stockpot("volume", "create", "pvc-1", "--size", "96MiB")
        volume = self.volume("pvc-1")
        self.mount(volume, "data")
        self.write("data", "first", 16)
        self.streams()
        self.bucket()
        self.beside()
        self.delete_all(volume)

    def stockpot(self, *words) -> str:
        return run(self.binaries / "stockpot", *words, "--socket", self.daemon.home / "manager.sock")

    def volume(self, name: str) -> str:
        return json.loads(self.stockpot("volume", "show", name, "-o", "json"))["volume_id"]

    def streamed(self, snap: str) -> dict:
        port = Port(TAKES, self.home / snap, gives=False)
        spec = self.plugin.backup("pvc-1", "nightly", snap, f"127.0.0.1:{TAKES}")
        port.join(60)
        check(not port.is_alive(), f"the stream of {snap} has no end")
        return spec

    def restored(self, volume: str, snap: str) -> None:
        port = Port(GIVES, self.home / snap, gives=True)
        self.plugin.restore(volume, snap, f"127.0.0.1:{GIVES}")
        port.join(60)

    def streams(self) -> None:
        say("a schedule's backups to the plugin's port, cleaned up as they are done")
        check(self.streamed("s1")["prevSnapName"] == "", "the first has one before it")
        self.write("data", "second", 4)
        check(self.streamed("s2")["prevSnapName"] == "s1", "the second has none before it")
        self.plugin.clean_up("pvc-1", "nightly", "s1")
        say("restores from the plugin's port: to a new volume, then both in turn")
        self.restored("pvc-back", "s1")
        self.shows("pvc-back", ["first"], ["second"])
        self.restored("pvc-back", "s2")
        self.shows("pvc-back", ["first", "second"], [])

    def bucket(self) -> None:
        say("a backup to a bucket, and a volume from there")
        spec = self.plugin.backup(
            "pvc-1", "cloud", "c1", "s3://backups/nightlybackups", disableIncrementalBackups=True
        )
        check(spec["prevSnapName"] == "", f"{spec}")
        self.plugin.clean_up("pvc-1", "cloud", "c1")
        self.plugin.restore("pvc-cloud", "c1", "pvc-1")
        self.shows("pvc-cloud", ["first", "second"], [])
        self.plugin.clean_up("pvc-1", "cloud", "c1", "&cloudCopy=delete")

    def beside(self) -> None:
        say("a local snapshot, and a volume from it")
        self.plugin.backup("pvc-1", "here", "l1", "", localSnap=True)
        self.plugin.restore("pvc-local", "l1", "pvc-1", localRestore=True)
        self.shows("pvc-local", ["first", "second"], [])

    def shows(self, name: str, there: list[str], not_there: list[str]) -> None:
        volume = self.volume(name)
        self.mount(volume, name)
        for file in there:
            self.same(name, file)
        for file in not_there:
            check(not self.file(name, file).exists(), f"{name} shows {file}, which came later")
        self.unmount(volume, name)

    def delete_all(self, volume: str) -> None:
        say("deletes, of backups and volumes")
        self.plugin.clean_up("pvc-1", "nightly", "s2")
        self.plugin.clean_up("pvc-1", "here", "l1")
        self.unmount(volume, "data")
        for name in ("pvc-back", "pvc-cloud", "pvc-local", "pvc-1"):
            self.stockpot("volume", "delete", name)
        # The base of a next increment goes when nothing needs it.
        deadline = time.monotonic() + 30
        while self.groups[0].volumes() and time.monotonic() < deadline:
            time.sleep(0.2)
        check(self.groups[0].volumes() == [], f"logical volumes are left: {self.groups[0].volumes()}")


if __name__ == "__main__":
    sys.exit(play(Story, "the calls of OpenEBS's plugin did all of it"))
