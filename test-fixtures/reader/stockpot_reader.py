#!/usr/bin/env python3
"""An independent reader of Stockpot's bucket format 1, written from docs/bucket-format.md alone.

    stockpot_reader.py REPOSITORY list
    stockpot_reader.py REPOSITORY check
    stockpot_reader.py REPOSITORY restore SNAPSHOT TARGET
        [--key-file FILE | --passphrase-file FILE]

REPOSITORY is a directory with the objects of a bucket and prefix (`aws s3 sync s3://bucket/prefix DIR`).
Every hash, tag and checksum on the way is checked. It needs the packages blake3 and zstandard; and, for a sealed
repository, cryptography, and argon2-cffi where a passphrase is given.

It exists so that a backup can be read without the program that wrote it, and to prove that the document is enough.
It is slow and simple on purpose.
"""

import argparse
import base64
import json
import pathlib
import re
import struct
import sys

import blake3
import zstandard

FORMAT = 1
ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
KIND_CHUNK, KIND_MAP, KIND_LIST, KIND_INDEX = 1, 2, 3, 4
PLAIN_MAX = {KIND_CHUNK: 4 << 20, KIND_MAP: 32 << 10, KIND_LIST: 32 << 10, KIND_INDEX: 8 << 20}


class Bad(Exception):
    """What is in the bucket is not what format 1 says."""


def need(condition, problem):
    if not condition:
        raise Bad(problem)


def context(purpose):
    return f"stockpot 2026 format 1 {purpose}"


def derive(purpose, material):
    return blake3.blake3(material, derive_key_context=context(purpose)).digest()


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = _crc_table()
EXPORTED = re.compile(rb"stockpot-repository-key-1:([0-9a-f]{32}):([0-9a-f]{64})")
SLOTS_WORK_KIB_MAX = 4 << 20


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def gcm_open(key, nonce, sealed, aad, what):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Bad(f"{what}: the authentication tag does not match") from None


class Fields:
    """Little-endian fields one after another."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, length):
        need(self.at + length <= len(self.data), f"{self.what} ends too early")
        self.at += length
        return self.data[self.at - length:self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def zero(self, size):
        need(not any(self.take(size)), f"{self.what}: a reserved field is not zero")

    def text(self):
        text = self.take(self.number(1)).decode()
        need(ID.fullmatch(text), f"{self.what}: {text!r} is no id")
        return text

    def pack_name(self):
        return (self.text(), self.text(), self.take(16), self.number(4))

    def end(self):
        need(self.at == len(self.data), f"{self.what} is too long")


def pack_key(name):
    volume, snapshot, run, number = name
    return f"packs/{volume}/{snapshot}/{run.hex()}-{number}"


class Repository:
    def __init__(self, root, key_file=None, passphrase_file=None):
        self.root = pathlib.Path(root)
        self.objects = {}
        data = self.get("repository.json")
        marker = json.loads(data)
        need(marker["stockpot"] == "repository", "this is not a repository")
        need(marker["format"] == FORMAT, f"format {marker['format']} needs a newer reader")
        need(not marker["requires"], f"it requires {marker['requires']}: a newer reader is needed")
        self.id = bytes.fromhex(marker["id"])
        self.chunk_size = marker["chunk_size_bytes"]
        self.key, self.key_id = None, bytes(16)
        given = key_file or passphrase_file
        if marker["sealed"]:
            need(given, "the repository is sealed: give its key file or passphrase file")
            self.key = self.unwrap(key_file, passphrase_file)
            self.key_id = derive("key id", self.key)[:16]
            need(marker["key_id"] == self.key_id.hex(), "the key is not this repository's")
        else:
            need(not given, "a key was given, but the repository is not sealed")
        mac = self.hash("marker mac", data[:-75])
        need(data[-75:] == b',"mac":"' + mac.hex().encode() + b'"}\n', "repository.json: wrong MAC")
        self.marker = marker

    def get(self, key):
        path = self.root / key
        need(path.is_file(), f"{key} is missing")
        return path.read_bytes()

    def pack(self, key):
        if key not in self.objects:
            self.objects = {key: self.get(key)}
        return self.objects[key]

    def hash(self, purpose, data):
        if self.key is None:
            return derive(purpose, data)
        return blake3.blake3(data, key=derive(purpose, self.key)).digest()

    def unwrap(self, key_file, passphrase_file):
        secret = pathlib.Path(key_file or passphrase_file).read_bytes()
        if secret.endswith(b"\n"):
            secret = secret[:-1].removesuffix(b"\r")
        if key_file and secret.startswith(b"stockpot-repository-key-1:"):
            found = EXPORTED.fullmatch(secret)
            need(found, "the exported key is malformed")
            key_id, key = (bytes.fromhex(digits.decode()) for digits in found.groups())
            need(derive("key id", key)[:16] == key_id, "a digit of the exported key is wrong")
            return key
        self.slots_work_kib = 0
        for path in sorted((self.root / "keys").glob("*.json"))[:16]:
            key = self.try_slot(path, secret, "secret" if key_file else "passphrase")
            if key:
                return key
        raise Bad("no key slot opens with this key: wrong key file or passphrase")

    def try_slot(self, path, secret, kind):
        data = path.read_bytes()
        slot = json.loads(data)
        need(slot["stockpot"] == "key slot" and slot["format"] == FORMAT, f"{path.name} is no key slot")
        need(slot["repository"] == self.id.hex() and slot["slot"] == path.stem, f"{path.name} belongs elsewhere")
        if slot["kind"] != kind:
            return None
        salt = base64.b64decode(slot["salt"], validate=True)
        if kind == "secret":
            stretched = derive("slot secret", salt + secret)
        else:
            import argon2.low_level

            m, t, p = (slot["kdf"][name] for name in ("m_kib", "t", "p"))
            need(8 * p <= m <= 1 << 20 and t <= 16 and p <= 16 and m * t <= 4 << 20, f"{path.name} asks too much")
            if self.slots_work_kib + m * t > SLOTS_WORK_KIB_MAX:
                return None
            self.slots_work_kib += m * t
            stretched = argon2.low_level.hash_secret_raw(
                secret, salt, t, m, p, 32, argon2.low_level.Type.ID, version=0x13)
        if derive("slot check", stretched).hex() != slot["check"]:
            return None
        head, tail = data.rsplit(b',"wrapped":"', 1)
        need(tail == slot["wrapped"].encode() + b'"}\n', f"{path.name} is malformed")
        return gcm_open(derive("slot kek", stretched), base64.b64decode(slot["nonce"], validate=True),
                        base64.b64decode(slot["wrapped"], validate=True), b"stockpot key slot 1" + head, path.name)

    def record(self, key):
        """Kind and body of a record."""
        data = self.get(key)
        envelope = json.loads(data)
        need(envelope["format"] == FORMAT, f"{key}: format {envelope['format']} needs a newer reader")
        if self.key is None:
            need("key_id" not in envelope, f"{key} is sealed, the repository is not")
            check = derive("record hash", key.encode() + b"\0" + data[:-76])
            need(data[-76:] == b',"hash":"' + check.hex().encode() + b'"}\n', f"{key}: wrong hash")
            body = envelope["body"]
        else:
            head, tail = data.rsplit(b',"sealed":"', 1)
            need(tail.endswith(b'"}\n'), f"{key} is cut off")
            nonce = bytes.fromhex(envelope["nonce"])
            aad = b"stockpot record 1" + self.id + struct.pack("<H", len(key)) + key.encode() + head
            sealed = base64.b64decode(tail[:-3], validate=True)
            record_key = derive("record key", self.key + key.encode() + b"\0" + nonce)
            body = json.loads(gcm_open(record_key, bytes(12), sealed, aad, key))
        need(not body.get("requires"), f"{key} requires {body.get('requires')}: a newer reader is needed")
        return envelope["stockpot"], body

    def frame(self, key, offset, length, kind):
        """Plain bytes of a frame, its trailer checked."""
        where = f"{key} at {offset}"
        frame = self.pack(key)[offset:offset + length]
        need(len(frame) == length and length > 16, f"{where}: the pack is too short")
        found, compression, zero, number, plain_len, stored_len = struct.unpack("<BBHIII", frame[:16])
        need(found == kind and compression in (0, 1) and zero == 0, f"{where}: not the frame expected")
        need(length == 16 + stored_len and 0 < plain_len <= PLAIN_MAX[kind], f"{where}: wrong lengths")
        aad = (b"stockpot frame 1" + self.id + self.key_id + struct.pack("<H", len(key)) + key.encode() + frame[:16])
        if self.key is None:
            payload, trailer = frame[16:-4], frame[-4:]
            need(struct.pack("<I", crc32c(aad + payload)) == trailer, f"{where}: wrong checksum")
        else:
            nonce = struct.pack("<I", number) + bytes(8)
            payload = gcm_open(derive("pack key", self.key + key.encode()), nonce, frame[16:], aad, where)
        if compression:
            try:
                payload = zstandard.ZstdDecompressor().decompress(payload, max_output_size=plain_len)
            except zstandard.ZstdError as error:
                raise Bad(f"{where}: {error}") from None
        need(len(payload) == plain_len, f"{where}: wrong plain length")
        return payload

    def page(self, key, offset, length, expected, kind):
        plain = self.frame(key, offset, length, kind)
        need(self.hash("page hash", plain) == expected, f"{key} at {offset}: wrong page hash")
        return plain

    def table(self, fields, count):
        return [pack_key(fields.pack_name()) for _ in range(count)]

    def entry(self, fields, table):
        return table[fields.number(2)], fields.number(4), fields.number(4), fields.take(32)

    def leaves(self, level, first, place, total):
        """Chunk number and place of each chunk of a map, in order."""
        fields = Fields(self.page(*place, KIND_MAP), f"map page {place[0]} at {place[1]}")
        need(fields.number(1) == level, f"{fields.what}: wrong level")
        fields.zero(1)
        packs = fields.number(2)
        fields.zero(4)
        need(fields.number(8) == first, f"{fields.what}: wrong first chunk")
        bitmap = fields.number(8)
        need(bitmap, f"{fields.what} is empty")
        table = self.table(fields, packs)
        children = [(first + slot * 64**level, self.entry(fields, table)) for slot in range(64) if bitmap >> slot & 1]
        fields.end()
        for chunk, child in children:
            need(chunk < total, f"{fields.what} reaches past the volume")
            if level:
                yield from self.leaves(level - 1, chunk, child, total)
            else:
                yield chunk, child

    def packs(self, level, place):
        """Entries of a pack list, in order."""
        fields = Fields(self.page(*place, KIND_LIST), f"list page {place[0]} at {place[1]}")
        need(fields.number(1) == level, f"{fields.what}: wrong level")
        count, packs = fields.number(1), fields.number(2)
        fields.zero(4)
        table = self.table(fields, packs)
        if level:
            children = [(fields.pack_name(), self.entry(fields, table)) for _ in range(count)]
            fields.end()
            for _, child in children:
                yield from self.packs(level - 1, child)
        else:
            entries = [(fields.pack_name(), fields.number(8), fields.number(4), fields.number(4), fields.number(8))
                       for _ in range(count)]
            fields.end()
            yield from entries

    def chunks(self, manifest):
        """Chunk number and plain bytes of each chunk that is no hole."""
        need(manifest["chunk_size_bytes"] == self.chunk_size, "the manifest has another chunk size")
        total = -(-manifest["size_bytes"] // self.chunk_size)
        levels = next(n for n in range(1, 6) if 64**n >= total)
        mapped = 0
        if manifest["map"]:
            need(manifest["map"]["level"] == levels - 1, "the map has a wrong number of levels")
            for chunk, (key, offset, length, expected) in self.leaves(levels - 1, 0, root(manifest["map"]), total):
                plain = self.frame(key, offset, length, KIND_CHUNK)
                need(len(plain) == self.chunk_size, f"{key} at {offset}: not a whole chunk")
                need(self.hash("chunk hash", plain) == expected, f"{key} at {offset}: wrong chunk hash")
                mapped += 1
                yield chunk, plain
        need(mapped == manifest["chunks"]["mapped"], "the map has another number of chunks than the manifest says")

    def snapshots(self):
        for path in sorted(self.root.glob("snapshots/*/*.json")):
            key = path.relative_to(self.root).as_posix()
            kind, body = self.record(key)
            need(key == f"snapshots/{body['volume_id']}/{body['snapshot_id']}.json", f"{key} belongs elsewhere")
            if kind == "manifest":
                yield body

    def check_pack(self, name, size, crc):
        """Walks a whole pack through its index and checks the checksum of all its bytes."""
        key = pack_key(name)
        data = self.pack(key)
        need(len(data) == size and crc32c(data) == crc, f"{key}: size or checksum differ from the list")
        need(data[:16] == b"STKPPACK" + struct.pack("<II", FORMAT, int(self.key is not None)), f"{key}: wrong header")
        magic, at, length, frames, form, check = struct.unpack("<8sQIIII", data[-32:])
        need(magic == b"STKPFOOT" and form == FORMAT and crc32c(data[-32:-4]) == check, f"{key}: wrong footer")
        need(at + length + 32 == size, f"{key}: the footer does not fit")
        fields = Fields(self.frame(key, at, length, KIND_INDEX), f"index of {key}")
        need(fields.pack_name() == name, f"{key}: another pack's index")
        fields.take(8)
        if fields.number(1):
            fields.text(), fields.text(), fields.take(16)
        fields.take(16 * fields.number(4))
        need(fields.number(4) == frames, f"{key}: index and footer differ")
        offset = 16
        for _ in range(frames):
            kind, _level, _zero, length, _position = struct.unpack("<BBHIQ", fields.take(16))
            plain = self.frame(key, offset, length, kind)
            purpose = "chunk hash" if kind == KIND_CHUNK else "page hash"
            need(self.hash(purpose, plain) == fields.take(32), f"{key} at {offset}: wrong hash")
            offset += length
        fields.end()
        need(offset == at, f"{key}: the index does not reach the footer")


def root(tree):
    return tree["pack"], tree["offset"], tree["length"], bytes.fromhex(tree["hash"])


def restore(repository, manifest, target):
    with open(target, "xb") as out:
        out.truncate(manifest["size_bytes"])
        for chunk, plain in repository.chunks(manifest):
            start = chunk * repository.chunk_size
            out.seek(start)
            out.write(plain[:manifest["size_bytes"] - start])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository")
    parser.add_argument("verb", choices=["list", "check", "restore"])
    parser.add_argument("arguments", nargs="*", help="for restore: SNAPSHOT TARGET")
    parser.add_argument("--key-file")
    parser.add_argument("--passphrase-file")
    options = parser.parse_args()
    if len(options.arguments) != (2 if options.verb == "restore" else 0):
        parser.error("restore takes SNAPSHOT and TARGET, the other verbs take nothing more")
    repository = Repository(options.repository, options.key_file, options.passphrase_file)
    if options.verb == "restore":
        name, target = options.arguments
        found = [manifest for manifest in repository.snapshots() if manifest["snapshot_id"] == name]
        need(found, f"there is no snapshot {name}")
        restore(repository, found[0], target)
        return
    checked = set()
    for manifest in repository.snapshots():
        if options.verb == "check":
            for _ in repository.chunks(manifest):
                pass
            packs = repository.packs(manifest["pack_list"]["level"], root(manifest["pack_list"])) \
                if manifest["pack_list"] else []
            for name, size, crc, _frames, _bytes in packs:
                if name not in checked:
                    repository.check_pack(name, size, crc)
                    checked.add(name)
        print(manifest["snapshot_id"], manifest["volume_id"], manifest["size_bytes"], manifest["cut_at"])


if __name__ == "__main__":
    try:
        main()
    except (Bad, OSError) as problem:
        sys.exit(f"stockpot_reader: {problem}")
