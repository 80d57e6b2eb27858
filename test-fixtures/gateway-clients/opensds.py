"""What OpenSDS's callers do by HTTP; started by `run` in a guest of the test host.

usage: opensds.py BINARIES
"""

import json
import pathlib
import sys
import urllib.error
import urllib.request

from parts import OnThisHost, Server, check, play, say, until


class OpenSds:
    """Calls to one daemon."""

    def __init__(self, port: int):
        self.base = f"http://127.0.0.1:{port}/v1beta/demo"

    def __call__(self, method: str, path: str, body=None, status: int = 202):
        """The JSON of an answer, which has to have this status."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            found, text = error.code, error.read()
        check(found == status, f"{method} {path}: {found} {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def available(self, path: str) -> dict:
        """A thing, when it is available."""

        def look():
            now = self("GET", path, status=200)
            check(now["status"] != "error", f"{path}: {now}")
            return now if now["status"] == "available" else None

        return until(f"{path} is available", look)

    def remove(self, path: str) -> None:
        self("DELETE", path)

        def is_gone() -> bool:
            listed = self("GET", path.rsplit("/", 1)[0], status=200)
            return path.rsplit("/", 1)[1] not in [thing["id"] for thing in listed]

        until(f"{path} is gone", is_gone)
        self("GET", path, status=404)


class Story(OnThisHost):
    def __init__(self, home: pathlib.Path, binaries: pathlib.Path):
        super().__init__(home, binaries)
        self.api = OpenSds(self.daemon.port)

    def tell(self) -> None:
        profile = self.make_profile()
        volume, snapshot = self.snapshot_into_the_cloud(profile)
        back = self.come_back(volume, snapshot)
        self.delete_all(profile, snapshot, [volume, back])

    def make_profile(self) -> str:
        say("a profile whose topology is a bucket of the S3 server")
        topology = {
            "bucket": "backups", "prefix": "opensds", "endpoint": f"http://127.0.0.1:{Server.PORT}",
            "region": "us-east-1", "credentials": {"file": "credentials"}, "key": {"file": "key"},
        }
        body = {"name": "cloud", "storageType": "block", "snapshotProperties": {"topology": topology}}
        made = self.api("POST", "profiles", body, 200)
        again = self.api("POST", "profiles", body, 200)
        check(again["id"] == made["id"], f"{again}")
        changed = self.api("PUT", f"profiles/{made['id']}", {"description": "another building"}, 200)
        check(changed["snapshotProperties"]["topology"] == topology, f"{changed}")
        return made["id"]

    def snapshot_into_the_cloud(self, profile: str) -> tuple[str, str]:
        say("a volume in use, and a snapshot with the profile's id")
        api = self.api
        api("POST", "block/volumes", {"name": "x", "size": 1, "metadata": {"profile": "cloud"}}, 400)
        volume = api("POST", "block/volumes", {"name": "data", "size": 1, "profileId": profile})["id"]
        shown = api.available(f"block/volumes/{volume}")
        check(shown["profileId"] == profile and shown["size"] == 1, f"{shown}")
        self.mount(volume, "data")
        self.write("data", "first", 16)
        body = {"name": "nightly", "description": "words", "volumeId": volume, "profileId": profile}
        snapshot = api("POST", "block/snapshots", body)["id"]
        self.write("data", "second", 4)
        shown = api.available(f"block/snapshots/{snapshot}")
        check(shown["description"] == "words" and shown["profileId"] == profile, f"{shown}")
        told = shown["metadata"]
        check(told["bucket"] == "backups" and told["location"].startswith("s3://backups/opensds/"), f"{shown}")
        manifest = self.server.mount / "data" / told["location"].removeprefix("s3://")
        check(manifest.is_file(), f"{manifest} is not there")
        return volume, snapshot

    def come_back(self, volume: str, snapshot: str) -> str:
        say("a volume from the snapshot's copy in the cloud, larger than it was")
        api = self.api
        body = {"name": "back", "size": 2, "snapshotId": snapshot, "snapshotFromCloud": True}
        api("POST", "block/volumes", {**body, "size": 0}, 400)
        back = api("POST", "block/volumes", body)["id"]
        shown = api.available(f"block/volumes/{back}")
        check(shown["size"] == 2 and shown["snapshotId"] == snapshot and shown["snapshotFromCloud"], f"{shown}")
        self.mount(back, "back")
        self.same("back", "first")
        check(not self.file("back", "second").exists(), "the snapshot shows what came later")
        self.same("data", "second")
        self.unmount(back, "back")
        listed = api("GET", "block/volumes?sortKey=name&sortDir=asc", status=200)
        check([thing["id"] for thing in listed] == [back, volume], f"{listed}")
        return back

    def delete_all(self, profile: str, snapshot: str, volumes: list[str]) -> None:
        say("deletes, of the snapshot, the volumes and the profile")
        api = self.api
        self.unmount(volumes[0], "data")
        api.remove(f"block/snapshots/{snapshot}")
        refused = {"name": "late", "snapshotId": snapshot, "snapshotFromCloud": True}
        api("POST", "block/volumes", refused, 400)
        for volume in volumes:
            api.remove(f"block/volumes/{volume}")
        api("DELETE", f"profiles/{profile}", status=200)
        api("GET", f"profiles/{profile}", status=404)
        check(self.groups[0].volumes() == [], f"logical volumes are left: {self.groups[0].volumes()}")


if __name__ == "__main__":
    sys.exit(play(Story, "the calls of OpenSDS did all of it"))
