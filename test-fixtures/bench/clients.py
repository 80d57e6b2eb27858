"""Those who are compared: each sends an image, sends what changed, and gets the newest state back.

A client has `full(image)`, `again(image)` (the volume's next state, or None where it can only send all), `told(image,
changed)` and `restore(target)`; each gives the command to be measured. `unmeasured` runs what has to be there before.
"""

import json
import pathlib
import shlex
import shutil
import subprocess

from server import BUCKET


class Stockpot:
    """Sealed and with its defaults, unless `options` say otherwise."""

    name = "stockpot"

    def __init__(self, binary, server, work: pathlib.Path, options=()):
        self.binary, self.server, self.work, self.options = binary, server, work, list(options)
        self.key = work / "key"
        self.key.touch(mode=0o600)
        self.key.write_text("5" * 64)
        self.begin("start")

    def begin(self, run) -> None:
        self.prefix = f"stockpot-{run}"
        self.snapshot = None
        # Making the repository, with its trials of the endpoint, happens once in its life: it is not measured.
        seed = self.work / "seed"
        seed.write_bytes(b"seed")
        self.set_up = [self.binary, "backup", seed, "--to", f"s3://{BUCKET}/{self.prefix}", "--volume", "seed",
                       "--key-file", self.key, "-q", *self.options]

    def full(self, image):
        return self._backup(image)

    def again(self, image):
        return self._backup(image)

    def told(self, image, changed):
        return self._backup(image, "--changed", changed, "--since", self.snapshot)

    def _backup(self, image, *more):
        return [self.binary, "backup", image, "--to", f"s3://{BUCKET}/{self.prefix}", "--volume", "bench",
                "--key-file", self.key, "-q", "-o", "json", *self.options, *more]

    def note(self, output: bytes) -> None:
        """What the backup just measured has said."""
        self.snapshot = json.loads(output)["snapshot_id"]

    def restore(self, target):
        return [self.binary, "restore", f"s3://{BUCKET}/{self.prefix}", self.snapshot, target, "--key-file", self.key, "-q"]

    def knows_told(self) -> bool:
        shown = subprocess.run([self.binary, "backup", "--help"], capture_output=True, text=True, check=True)
        return "--changed" in shown.stdout


class Pipe:
    """`zstd -1 -T2 | aws s3 cp -`: no sealing, no checks of its own, no increments; and little to do."""

    name = "zstd | aws"

    def __init__(self, server, aws="aws"):
        self.server, self.aws = server, aws
        self.begin("start")

    def begin(self, run) -> None:
        self.prefix = f"pipe-{run}"

    def full(self, image):
        return _shell(f"zstd -1 -T2 -c {_q(image)} | {_q(self.aws)} s3 cp --only-show-errors - {self._url()}")

    def restore(self, target):
        return _shell(f"{_q(self.aws)} s3 cp --only-show-errors {self._url()} - | zstd -d -q -f --sparse -o {_q(target)}")

    def _url(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}"


class Restic:
    """Debian's, from a pipe: it takes a device for nothing otherwise."""

    name = "restic"

    def __init__(self, server, work):
        self.server = server
        self.cache = work / "restic-cache"
        self.begin("start")

    def begin(self, run) -> None:
        self.prefix = f"restic-{run}"
        self.set_up = _shell(f"{self._restic()} init --repository-version 2 >/dev/null")

    def _restic(self) -> str:
        place = f"s3:{self.server.endpoint}/{BUCKET}/{self.prefix}"
        return f"RESTIC_PASSWORD=bench restic --quiet --cache-dir {_q(self.cache)} -r {place}"

    def full(self, image):
        return _shell(f"{self._restic()} backup --stdin --stdin-filename volume <{_q(image)}")

    again = full

    def restore(self, target):
        return _shell(f"{self._restic()} dump latest volume | dd of={_q(target)} bs=1M conv=sparse iflag=fullblock status=none")


class Rustic:
    """The one from crates.io, from a pipe, like restic; its settings are in a profile, so that no secret is an argument."""

    name = "rustic"

    def __init__(self, server, work, program):
        self.server, self.program = server, program
        self.home = work / "rustic"
        self.home.mkdir()
        self.begin("start")

    def begin(self, run) -> None:
        self.prefix = f"rustic-{run}"
        profile = (self.home / self.prefix).with_suffix(".toml")
        profile.write_text(
            f'[global]\nlog-level = "warn"\nno-progress = true\n\n'
            f'[repository]\nrepository = "opendal:s3"\npassword = "bench"\ncache-dir = "{self.home / "cache"}"\n\n'
            f'[repository.options]\nbucket = "{BUCKET}"\nroot = "/{self.prefix}"\n'
            f'endpoint = "{self.server.endpoint}"\nregion = "us-east-1"\n')
        self.set_up = _shell(f"{self._rustic()} init")

    def _rustic(self) -> str:
        return f"cd {_q(self.home)} && {_q(self.program)} -P {_q(self.prefix)}"

    def full(self, image):
        # Without --force it takes a pipe for unchanged by its name alone, and reads nothing.
        return _shell(f"{self._rustic()} backup --force --stdin-filename volume - <{_q(image)}")

    again = full

    def restore(self, target):
        return _shell(f"{self._rustic()} dump latest:volume | dd of={_q(target)} bs=1M conv=sparse iflag=fullblock status=none")


class Borg:
    """Debian's, with a repository in a local directory: it has no S3."""

    name = "borg (local)"

    def __init__(self, server, work):
        self.server = server
        self.base = work / "borg-base"
        self.begin("start")

    def begin(self, run) -> None:
        self.prefix = f"borg-{run}"
        self.count = 0
        self.set_up = _shell(f"{self._borg()} init -e repokey-blake2 {self._place()}")

    def _borg(self) -> str:
        return (f"BORG_PASSPHRASE=bench BORG_BASE_DIR={_q(self.base)} "
                "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes borg")

    def _place(self) -> str:
        return _q(self.server.bucket / self.prefix)

    def full(self, image):
        self.count += 1
        return _shell(f"{self._borg()} create -C lz4 --stdin-name volume {self._place()}::s{self.count} - <{_q(image)}")

    again = full

    def restore(self, target):
        return _shell(f"{self._borg()} extract --stdout {self._place()}::s{self.count} | "
                      f"dd of={_q(target)} bs=1M conv=sparse iflag=fullblock status=none")


def _q(text) -> str:
    return shlex.quote(str(text))


def _shell(command: str):
    return ["bash", "-o", "pipefail", "-c", command]


def peers(wanted, server, work, aws, rustic):
    """Those of the peers that are installed; the others are named."""
    found, missing = [], []
    for name in wanted:
        if name == "pipe" and shutil.which("zstd") and shutil.which(aws):
            found.append(Pipe(server, aws))
        elif name == "restic" and shutil.which("restic"):
            found.append(Restic(server, work))
        elif name == "rustic" and shutil.which(rustic):
            found.append(Rustic(server, work, rustic))
        elif name == "borg" and shutil.which("borg"):
            found.append(Borg(server, work))
        else:
            missing.append(name)
    return found, missing
