"""The images that the benchmarks send and restore. Made once, without root, and kept in the directory given.

A     4 GiB ext4 with about 1.6 GiB of this machine's own program files
A2    A after a day of work: files rewritten in place, pages of large files changed, files deleted, new ones (about 2 %)
B     2 GiB that do not compress
C     8 GiB, 100 MiB of data in 400 pieces scattered over it, the rest holes
G<n>  n GiB with the same 100 MiB scattered over it, to see what grows with a volume's size

`A2.changed` lists where A2 differs from A, in units of 64 KiB, as `OFFSET LENGTH` in bytes. What the images hold depends on
the machine, so figures are compared within one run only.
"""

import errno
import os
import pathlib
import random
import shutil
import subprocess

MIB = 1 << 20
BLOCK = 4096
FILES_BYTES = 1640 * MIB
ROOTS = ("bin", "sbin", "include", "lib", "share")
PIECES = 400
PIECE_BYTES = 256 << 10
UNIT_BYTES = 64 << 10


def make(directory: pathlib.Path, names) -> None:
    """Makes those of the images that are missing in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    makers = {"A": _make_a, "A2": _make_a2, "B": _make_b, "C": lambda part: _scatter(part, 8)}
    for name in ["A", *names]:
        image = directory / f"{name}.img"
        if image.exists():
            continue
        print(f"making {image}", flush=True)
        part = image.with_suffix(".part")
        part.unlink(missing_ok=True)
        maker = makers.get(name) or (lambda part, gib=int(name[1:]): _scatter(part, gib))
        maker(part)
        part.rename(image)


def require_same(expected: pathlib.Path, found: pathlib.Path) -> None:
    """Every byte equal; where both have holes there is nothing to read."""
    with expected.open("rb") as one, found.open("rb") as other:
        if expected.stat().st_size != found.stat().st_size:
            raise SystemExit(f"{found}: {found.stat().st_size} bytes instead of {expected.stat().st_size}")
        at = 0
        while (starts := [s for s in (_next_data(f, at) for f in (one, other)) if s is not None]):
            at = min(starts)
            end = max(os.lseek(f.fileno(), at, os.SEEK_HOLE) for f in (one, other))
            while at < end:
                length = min(end - at, 4 * MIB)
                content = os.pread(one.fileno(), length, at)
                if content != os.pread(other.fileno(), length, at):
                    raise SystemExit(f"{found}: differs from {expected} within {at}..{at + length}")
                at += length


def _next_data(file, at: int):
    try:
        return os.lseek(file.fileno(), at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but a hole follows
            raise
        return None


def _make_a(part: pathlib.Path) -> None:
    stage = part.with_suffix(".stage")
    shutil.rmtree(stage, ignore_errors=True)
    left = FILES_BYTES
    for path in _program_files():
        if left <= 0:
            break
        target = stage / path.relative_to("/usr")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        left -= path.stat().st_size
    if left > 0:
        print(f"only {(FILES_BYTES - left) // MIB} MiB of files found under /usr: A is smaller than usual")
    with part.open("wb") as f:
        f.truncate(4096 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "0",
                    "-E", "lazy_itable_init=1,nodiscard", "-d", stage, part], check=True)
    shutil.rmtree(stage)


def _program_files():
    """Regular files of /usr, in an order that stays the same on one machine."""
    for root in ROOTS:
        for folder, names, files in os.walk(f"/usr/{root}"):
            names.sort()
            for name in sorted(files):
                path = pathlib.Path(folder, name)
                if path.is_file() and not path.is_symlink() and path.stat().st_size > 0:
                    yield path


def _make_a2(part: pathlib.Path) -> None:
    rng = random.Random(42)
    before = part.with_name("A.img")
    subprocess.run(["cp", "--sparse=always", before, part], check=True)
    sizes = _files_in(part)
    paths = sorted(sizes)
    rng.shuffle(paths)
    rewritten, total = [], 0
    for path in paths:
        if BLOCK <= sizes[path] <= 8 * MIB:
            rewritten.append(path)
            total += sizes[path]
            if total > 40 * MIB:
                break
    large = [path for path in paths if sizes[path] > 8 * MIB][:12]
    where = _blocks_of(part, rewritten + large)
    with part.open("r+b") as image:
        for path in rewritten:
            half_of_them = rng.random() < 0.5
            for block in where[path]:
                _write(image, block, _blob(rng, BLOCK, half_of_them))
        for path in large:  # as a database would
            for _ in range(64):
                _write(image, rng.choice(where[path]), _blob(rng, BLOCK, True))
    _delete_and_add(part, paths[-200:], rng)
    _list_changes(before, part, part.with_name("A2.changed"))


def _delete_and_add(image, deleted, rng) -> None:
    new = image.with_suffix(".new")
    new.mkdir(exist_ok=True)
    commands = [f'rm "{path}"' for path in deleted] + ["mkdir /new"]
    for number in range(300):
        source = new / str(number)
        source.write_bytes(_blob(rng, rng.choice([4096, 20_000, 65_536, 300_000]), number % 2 == 1))
        commands.append(f"write {source} /new/{number}")
    _debugfs(image, commands, "-w")
    shutil.rmtree(new)


def _blob(rng, length: int, compressible: bool) -> bytes:
    return rng.randbytes(length // 2 + 1).hex().encode()[:length] if compressible else rng.randbytes(length)


def _write(image, block: int, content: bytes) -> None:
    image.seek(block * BLOCK)
    image.write(content)


def _debugfs(image, commands, *options) -> str:
    script = image.with_suffix(".debugfs")
    script.write_text("\n".join(commands) + "\n")
    done = subprocess.run(["debugfs", *options, "-f", script, image], check=True, capture_output=True, text=True)
    script.unlink()
    return done.stdout


def _files_in(image):
    """Sizes of the regular files by path; names that would need quoting are left out."""
    sizes, folders = {}, [""]
    while folders:
        listing = _debugfs(image, [f'ls -p "{folder}/"' for folder in folders])
        found, current = [], iter(folders)
        for line in listing.splitlines():
            if line.startswith("debugfs:"):
                folder = next(current)
            elif line.startswith("/"):
                _, _, mode, _, _, name, size = line.split("/")[:7]
                if name in (".", "..") or any(c in name for c in ' "\\'):
                    continue
                if mode.startswith("04"):
                    found.append(f"{folder}/{name}")
                elif mode.startswith("10"):
                    sizes[f"{folder}/{name}"] = int(size or 0)
        folders = found
    return sizes


def _blocks_of(image, paths):
    """Blocks of each file, as the image numbers them."""
    answer = _debugfs(image, [f'blocks "{path}"' for path in paths])
    lines = [line for line in answer.splitlines() if not line.startswith("debugfs:") and line.strip()]
    if len(lines) != len(paths):
        raise SystemExit(f"debugfs told of {len(lines)} of {len(paths)} files")
    return {path: [int(block) for block in line.split() if block != "0"] for path, line in zip(paths, lines)}


def _list_changes(before, after, into) -> None:
    rows = []
    with before.open("rb") as old, after.open("rb") as new:
        at = 0
        while content := new.read(UNIT_BYTES):
            if content != old.read(UNIT_BYTES):
                if rows and sum(rows[-1]) == at:
                    rows[-1] = (rows[-1][0], rows[-1][1] + len(content))
                else:
                    rows.append((at, len(content)))
            at += len(content)
    into.write_text("".join(f"{offset} {length}\n" for offset, length in rows))


def _make_b(part: pathlib.Path) -> None:
    rng = random.Random(11)
    with part.open("wb") as f:
        for _ in range(128):
            f.write(rng.randbytes(16 * MIB))


def _scatter(part: pathlib.Path, gib: int) -> None:
    rng = random.Random(7)
    with part.with_name("A.img").open("rb") as source, part.open("wb") as image:
        image.truncate(gib << 30)
        for _ in range(PIECES):
            source.seek(64 * MIB + rng.randrange(1400) * MIB)
            content = source.read(PIECE_BYTES)
            image.seek(rng.randrange((gib << 30) // BLOCK - 64) * BLOCK)
            image.write(content)
