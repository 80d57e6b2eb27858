#!/usr/bin/env python3
"""Restores the worked examples of docs/bucket-format.md with stockpot_reader.py, and then damages them byte by byte.

    check_document.py [DOCUMENT]
"""

import pathlib
import re
import sys
import tempfile

import stockpot_reader as reader

HERE = pathlib.Path(__file__).resolve().parent
VOLUME = b"A" * 65536 + bytes(2 * 65536) + b"B" * 3392
SECRET = b"0123456789abcdef0123456789abcdef\n"


def objects(document, name):
    block = re.search(rf"^```{name}\n(.*?)^```$", document, re.S | re.M).group(1)
    found = {}
    for part in re.split(r"^== ", block, flags=re.M)[1:]:
        head, body = part.split("\n", 1)
        key = head.split(" ")[0]
        if key.endswith(".json"):
            found[key] = body.encode()
        else:
            found[key] = b"".join(bytes.fromhex(line.split(": ")[1]) for line in body.splitlines())
    return found


def write(root, found):
    for key, data in found.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def restored(root, key_file):
    repository = reader.Repository(root, key_file)
    (manifest,) = repository.snapshots()
    for name, size, crc, _, _ in repository.packs(manifest["pack_list"]["level"], reader.root(manifest["pack_list"])):
        repository.check_pack(name, size, crc)
    volume = bytearray(manifest["size_bytes"])
    for chunk, plain in repository.chunks(manifest):
        start = chunk * repository.chunk_size
        volume[start:start + len(plain)] = plain[:len(volume) - start]
    return bytes(volume)


def check_slots(document):
    """The key slots of the vectors open the sealed example too."""
    block = re.search(r"^```frames-and-records\n(.*?)^```$", document, re.S | re.M).group(1)
    for kind, secret in (("secret", SECRET), ("passphrase", b"correct horse battery staple\n")):
        slot = re.search(rf"^key slot, {kind} = (.*\n)", block, re.M).group(1)
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory) / "bucket"
            write(root, objects(document, "example-sealed") | {"keys/main.json": slot.encode()})
            key_file = pathlib.Path(directory) / "secret"
            key_file.write_bytes(secret)
            given = {"key_file" if kind == "secret" else "passphrase_file": key_file}
            assert len(list(reader.Repository(root, **given).snapshots())) == 1
        print(f"key slot, {kind}: opens")


def main():
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "docs" / "bucket-format.md"
    document = path.read_text()
    check_slots(document)
    for name in ("example-unsealed", "example-sealed"):
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory) / "bucket"
            key_file = None
            if name == "example-sealed":
                key_file = pathlib.Path(directory) / "secret"
                key_file.write_bytes(SECRET)
            found = objects(document, name)
            write(root, found)
            assert restored(root, key_file) == VOLUME, f"{name} came back differently"
            unseen = 0
            for key, data in found.items():
                for at in range(len(data)):
                    (root / key).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
                    try:
                        # Bytes of the list's own pack besides its page are read by nobody here.
                        same = restored(root, key_file) == VOLUME
                        assert same and key.endswith("-2"), f"{name}: byte {at} of {key} was changed unseen"
                        unseen += 1
                    except (reader.Bad, ValueError, KeyError, TypeError, IndexError):
                        pass
                (root / key).write_bytes(data)
            print(f"{name}: restored; every changed byte found, but for {unseen} that a restore does not read")


if __name__ == "__main__":
    main()
