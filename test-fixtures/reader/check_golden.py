#!/usr/bin/env python3
"""Restores every golden repository with stockpot_reader.py, and checks that no damage of one passes unseen.

    check_golden.py [FOLDER]

FOLDER has a folder for each format, each of them a folder for each repository: `bucket/` with its objects, `volumes.txt` with id,
size in bytes and BLAKE3 of each snapshot's volume, and beside the repositories their `secret` and `passphrase`.
"""

import json
import pathlib
import random
import shutil
import sys
import tempfile

import blake3

import stockpot_reader as reader

HERE = pathlib.Path(__file__).resolve().parent
FLIPS_PER_OBJECT = 4


def key_of(format_folder, folder):
    if folder.name.endswith("by-secret"):
        return {"key_file": format_folder / "secret"}
    if folder.name.endswith("by-passphrase"):
        return {"passphrase_file": format_folder / "passphrase"}
    return {}


def volumes(folder):
    lines = (folder / "volumes.txt").read_text().splitlines()
    return {name: (int(size), digest) for name, size, digest in (line.split(" ") for line in lines)}


def restored(bucket, key):
    """Size and BLAKE3 of each snapshot's volume; every pack of it is walked too."""
    repository = reader.Repository(bucket, **key)
    found = {}
    for manifest in repository.snapshots():
        if manifest["pack_list"]:
            for name, size, crc, _, _ in repository.packs(manifest["pack_list"]["level"],
                                                          reader.root(manifest["pack_list"])):
                repository.check_pack(name, size, crc)
        with tempfile.TemporaryDirectory() as directory:
            target = pathlib.Path(directory) / "volume"
            reader.restore(repository, manifest, target)
            data = target.read_bytes()
        found[manifest["snapshot_id"]] = (len(data), blake3.blake3(data).hexdigest())
    return found


def unread(bucket, key):
    """Whether a restore has no need of an object's bytes, by the object's key."""
    repository = reader.Repository(bucket, **key)
    manifests = list(repository.snapshots())
    # A list's own packs hold an index and a footer besides the pages; only the pages are read here.
    lists = {manifest["pack_list"]["pack"] for manifest in manifests if manifest["pack_list"]}
    used = lists.copy()
    for manifest in manifests:
        if manifest["pack_list"]:
            packs = repository.packs(manifest["pack_list"]["level"], reader.root(manifest["pack_list"]))
            used |= {reader.pack_key(name) for name, *_ in packs}
    # Slots of the other kind are passed over.
    kind = "passphrase" if "passphrase_file" in key else "secret"
    others = {f"keys/{path.name}" for path in (pathlib.Path(bucket) / "keys").glob("*.json")
              if json.loads(path.read_text())["kind"] != kind}
    return lambda object_key: object_key in lists | others or (
        object_key.startswith(("intents/", "marks/", "condemned/"))) or (
        object_key.startswith("packs/") and object_key not in used)


def check_damage(folder, key, expected):
    """Flips a byte here and there: the reader fails, or did not need it and restores the same."""
    may_pass = unread(folder / "bucket", key)
    seed = sum(folder.name.encode())
    choice, failed, unseen = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as directory:
        bucket = pathlib.Path(directory) / "bucket"
        shutil.copytree(folder / "bucket", bucket)
        for path in sorted(path for path in bucket.rglob("*") if path.is_file()):
            data = path.read_bytes()
            for at in sorted({0, len(data) - 1} | {choice.randrange(len(data)) for _ in range(FLIPS_PER_OBJECT)}):
                path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:])
                try:
                    found = restored(bucket, key)
                except (reader.Bad, ValueError, KeyError, TypeError, IndexError, OSError):
                    failed += 1
                else:
                    name = path.relative_to(bucket).as_posix()
                    assert found == expected and may_pass(name), f"{name}: byte {at} was changed and passed"
                    unseen += 1
            path.write_bytes(data)
    assert failed > unseen, f"{folder.name}: only {failed} of {failed + unseen} flips were found"
    return failed, unseen


def main():
    golden = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "golden"
    checked = 0
    for format_folder in sorted(path for path in golden.iterdir() if path.is_dir()):
        for folder in sorted(path for path in format_folder.iterdir() if path.is_dir()):
            key, expected = key_of(format_folder, folder), volumes(folder)
            found = restored(folder / "bucket", key)
            assert found == expected, f"{folder}: restored {found}, expected {expected}"
            if len(list((folder / "bucket").glob("keys/*.json"))) > 1:
                by_passphrase = restored(folder / "bucket", {"passphrase_file": format_folder / "passphrase"})
                assert by_passphrase == expected, f"{folder}: by its passphrase restored {by_passphrase}"
            failed, unseen = check_damage(folder, key, expected)
            print(f"{format_folder.name}/{folder.name}: {len(found)} snapshots restored; "
                  f"{failed} flipped bytes found, {unseen} in what a restore does not need")
            checked += 1
    assert checked, f"no golden repository in {golden}"


if __name__ == "__main__":
    main()
