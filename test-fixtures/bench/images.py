"""The images that the benchmarks send and restore.

files.img    4 GiB ext4 with about 1.5 GiB of this machine's own program files
sparse.img   8 GiB, 100 MiB of data in 400 pieces scattered over it, the rest holes

They are made once and kept in the directory given. What they hold depends on the machine, so figures are compared
within one run only.
"""

import os
import pathlib
import random
import shutil
import subprocess

MIB = 1 << 20
FILES_BYTES = 1536 * MIB
ROOTS = ("bin", "sbin", "include", "lib", "share")


def make_all(directory: pathlib.Path) -> None:
    """Makes the images that are missing in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    files = directory / "files.img"
    if not files.exists():
        _make_files(files)
    sparse = directory / "sparse.img"
    if not sparse.exists():
        _make_sparse(files, sparse)


def _make_files(image: pathlib.Path) -> None:
    stage = image.with_suffix(".stage")
    shutil.rmtree(stage, ignore_errors=True)
    left = FILES_BYTES
    for path in _program_files():
        if left <= 0:
            break
        target = stage / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        left -= path.stat().st_size
    if left > 0:
        raise SystemExit(f"only {(FILES_BYTES - left) // MIB} MiB of files found under /usr")
    part = image.with_suffix(".part")
    part.unlink(missing_ok=True)
    with part.open("wb") as f:
        f.truncate(4096 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-d", stage, part], check=True)
    shutil.rmtree(stage)
    part.rename(image)


def _program_files():
    """Regular files of /usr, in an order that stays the same on one machine."""
    for root in ROOTS:
        for folder, names, files in os.walk(f"/usr/{root}"):
            names.sort()
            for name in sorted(files):
                path = pathlib.Path(folder, name)
                if path.is_file() and not path.is_symlink() and path.stat().st_size > 0:
                    yield path


def _make_sparse(source: pathlib.Path, image: pathlib.Path) -> None:
    rng = random.Random(7)
    part = image.with_suffix(".part")
    with source.open("rb") as src, part.open("wb") as dst:
        dst.truncate(8192 * MIB)
        for _ in range(400):
            src.seek(64 * MIB + rng.randrange(1400) * MIB)
            data = src.read(256 << 10)
            dst.seek(rng.randrange(8192 * MIB // 4096 - 64) * 4096)
            dst.write(data)
    part.rename(image)
