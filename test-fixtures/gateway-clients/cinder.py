"""What an administrator does with python-cinderclient; started by `run` in a guest of the test host.

usage: cinder.py BINARIES CINDER
"""

import json
import pathlib
import re
import subprocess
import sys
import urllib.error
import urllib.request

from parts import Daemon, Failed, Group, OnThisHost, check, play, say, until


class Cinder:
    """The real client, at one daemon."""

    def __init__(self, program: str, port: int):
        self.endpoint = f"http://127.0.0.1:{port}"
        self.command = [
            program, "--os-auth-type", "noauth", "--os-endpoint", f"{self.endpoint}/v3/demo", "--os-project-id", "demo",
            "--os-user-id", "admin", "--os-volume-api-version", "3.66",
        ]

    def ask(self, *words) -> subprocess.CompletedProcess:
        return subprocess.run(self.command + list(words), capture_output=True, text=True, check=False)

    def __call__(self, *words) -> dict:
        """What it prints as a table of properties."""
        done = self.ask(*words)
        check(done.returncode == 0, f"cinder {' '.join(words)}: {done.stderr}{done.stdout}")
        rows = re.findall(r"^\| (\S+) +\| (.*?) *\|$", done.stdout, re.MULTILINE)
        return dict(rows[1:])

    def refused(self, why: str, *words) -> None:
        done = self.ask(*words)
        check(done.returncode != 0 and why in done.stderr, f"cinder {' '.join(words)}: {done.stderr}{done.stdout}")

    def ids(self, *words) -> list[str]:
        """The first column of a list."""
        done = self.ask(*words)
        check(done.returncode == 0, f"cinder {' '.join(words)}: {done.stderr}")
        return re.findall(r"^\| ([0-9a-f]{8}-[0-9a-f-]{27}) ", done.stdout, re.MULTILINE)

    def shown(self, kind: str, thing: str, status: str) -> dict:
        """A thing, when it has this status."""
        verb = {"volume": "show", "backup": "backup-show", "snapshot": "snapshot-show"}[kind]

        def look():
            now = self(verb, thing)
            check(not now["status"].startswith("error"), f"{kind} {thing}: {now}")
            return now if now["status"] == status else None

        return until(f"{kind} {thing} is {status}", look)


class Story(OnThisHost):
    def __init__(self, home: pathlib.Path, binaries: pathlib.Path, program: str):
        super().__init__(home, binaries)
        self.program = program
        self.groups.append(Group(home, "two"))
        self.cinder = Cinder(program, self.daemon.port)

    def tell(self) -> None:
        volume = self.make_volume()
        first, second = self.back_up_in_use(volume)
        self.back_up_a_snapshot(volume)
        self.restore(volume, first, second)
        self.know_it_elsewhere(second)
        self.delete_all()

    def make_volume(self) -> str:
        say("a volume, in use by a file system")
        cinder = self.cinder
        volume = cinder("create", "1", "--name", "data", "--metadata", "tier=gold")["id"]
        shown = cinder.shown("volume", volume, "available")
        check(shown["size"] == "1" and shown["name"] == "data", f"{shown}")
        self.mount(shown["provider_id"], "data")
        self.write("data", "first", 16)
        cinder.shown("volume", "data", "in-use")
        return volume

    def back_up_in_use(self, volume: str) -> tuple[str, str]:
        say("backup-create without and with --force, by the name and by the id")
        cinder = self.cinder
        cinder.refused("in use", "backup-create", "data", "--name", "refused")
        check(cinder.ids("backup-list") == [], "a refused backup left something")
        first = cinder(
            "backup-create", volume, "--force", "--name", "nightly001", "--description", "Nightly backup",
            "--container", "nightlybackups", "--metadata", "run=1",
        )["id"]
        shown = cinder.shown("backup", first, "available")
        for key, value in {
            "name": "nightly001", "description": "Nightly backup", "container": "nightlybackups", "volume_id": volume,
            "size": "1", "is_incremental": "False", "fail_reason": "None", "os-backup-project-attr:project_id": "demo",
            "user_id": "admin",
        }.items():
            check(shown[key] == value, f"{key}: {shown}")
        cinder.shown("volume", volume, "in-use")
        self.write("data", "second", 8)
        second = cinder("backup-create", "data", "--force", "--incremental", "--name", "nightly002")["id"]
        shown = cinder.shown("backup", second, "available")
        check(shown["is_incremental"] == "True", f"{shown}")
        check(sorted(cinder.ids("backup-list")) == sorted([first, second]), "backup-list")
        check(cinder.ids("backup-list", "--name", "nightly001") == [first], "backup-list --name")
        check(cinder.ids("backup-list", "--limit", "1", "--sort", "created_at:asc") == [first], "backup-list --limit")
        cinder("backup-update", first, "--name", "kept", "--description", "of the first day")
        cinder.shown("backup", "kept", "available")
        return first, second

    def back_up_a_snapshot(self, volume: str) -> None:
        say("the text's own request on /v2, of a snapshot")
        cinder = self.cinder
        snapshot = cinder("snapshot-create", volume, "--name", "cut")["id"]
        cinder.shown("snapshot", snapshot, "available")
        body = {"backup": {
            "display_name": "nightly003", "display_description": "Nightly backup", "volume_id": volume,
            "container": "nightlybackups", "force": True, "snapshot_id": snapshot,
        }}
        request = urllib.request.Request(f"{cinder.endpoint}/v2/demo/backups", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request) as answer:
            check(answer.status == 202, f"{answer.status}")
            backup = json.load(answer)["backup"]["id"]
        shown = cinder.shown("backup", backup, "available")
        check(shown["snapshot_id"] == snapshot, f"{shown}")
        cinder.shown("snapshot", snapshot, "available")
        cinder("backup-delete", backup)
        cinder("snapshot-delete", snapshot)

    def restore(self, volume: str, first: str, second: str) -> None:
        say("backup-restore to a new volume, and in place")
        cinder = self.cinder
        made = cinder("backup-restore", first, "--name", "copy")
        check(made["backup_id"] == first and made["volume_name"] == "copy", f"{made}")
        copy = cinder.shown("volume", made["volume_id"], "available")
        self.mount(copy["provider_id"], "copy")
        self.same("copy", "first")
        check(not self.file("copy", "second").exists(), "the first backup shows what came later")
        self.unmount(copy["provider_id"], "copy")
        cinder.refused("must be available", "backup-restore", second, "--volume", volume)
        self.unmount(cinder("show", volume)["provider_id"], "data")
        cinder.shown("volume", volume, "available")
        made = cinder("backup-restore", first, "--volume", volume)
        check(made["volume_id"] == volume, f"{made}")
        shown = cinder.shown("volume", volume, "available")
        self.mount(shown["provider_id"], "data")
        self.same("data", "first")
        check(not self.file("data", "second").exists(), "the volume has still its own content")
        self.unmount(shown["provider_id"], "data")

    def know_it_elsewhere(self, second: str) -> None:
        say("backup-export, and backup-import at a daemon with another catalog and storage")
        record = self.cinder("backup-export", second)
        check(record["backup_service"] == "stockpot", f"{record}")
        self.cinder.refused("already exists", "backup-import", record["backup_service"], record["backup_url"])
        other = Daemon(self.home, self.binaries, self.server, self.groups[1], 8777)
        try:
            there = Cinder(self.program, 8777)
            there.refused("No volumebackup", "backup-show", second)
            imported = there("backup-import", record["backup_service"], record["backup_url"])
            check(imported["id"] == second, f"{imported}")
            there.shown("backup", "nightly002", "available")
            made = there("backup-restore", second)
            volume = there.shown("volume", made["volume_id"], "available")
            other.csi("stage", volume["provider_id"], self.place("stage-there"), "--fs", "ext4")
            target = self.place("there")
            other.csi("publish", volume["provider_id"], self.place("stage-there"), target, "--fs", "ext4")
            for name in ("first", "second"):
                self.same("there", name)
            other.csi("unpublish", volume["provider_id"], target)
            other.csi("unstage", volume["provider_id"], self.place("stage-there"))
            there("delete", volume["id"])
            until("the volume is gone", lambda: not there.ids("list"))
        finally:
            other.end()

    def delete_all(self) -> None:
        say("backup-delete, delete")
        cinder = self.cinder
        for backup in cinder.ids("backup-list"):
            cinder("backup-delete", backup)
        until("the backups are gone", lambda: not cinder.ids("backup-list"))
        for volume in cinder.ids("list"):
            cinder("delete", volume)
        until("the volumes are gone", lambda: not cinder.ids("list"))
        check(self.groups[0].volumes() == [], f"logical volumes are left: {self.groups[0].volumes()}")
        self.not_found()

    def not_found(self) -> None:
        """The fault of the API itself, which the client does not show."""
        try:
            urllib.request.urlopen(f"{self.cinder.endpoint}/v3/demo/backups/nobody")
        except urllib.error.HTTPError as error:
            fault = json.load(error)["itemNotFound"]
            check(error.code == fault["code"] == 404, f"{fault}")
        else:
            raise Failed("there is a backup of nobody")


if __name__ == "__main__":
    sys.exit(play(Story, "python-cinderclient did all of it"))
