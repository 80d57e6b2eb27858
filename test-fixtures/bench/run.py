#!/usr/bin/env python3
"""Benchmarks of backup and restore against a real S3 server on this machine.

usage: run.py --binary STOCKPOT --server VERSITYGW [--dir DIR] [--runs N] [--chunk-size SIZE]

For each image: backup, restore, comparison of every byte, and of the holes. Prints a table with the median of N
runs: wall seconds, CPU seconds and peak memory of the client, throughput over the volume's size, bytes stored.
The same data goes through `zstd -1 -T2 | aws s3 cp -` where the AWS command line is installed; else that row says so.
"""

import argparse
import contextlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

import images

MIB = 1 << 20
BUCKET = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--dir", default="/var/tmp/stockpot-bench", type=pathlib.Path)
    parser.add_argument("--runs", default=5, type=int)
    parser.add_argument("--chunk-size", default="64KiB")
    args = parser.parse_args()
    images.make_all(args.dir)
    rows = []
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="stockpot-bench-") as work:
        work = pathlib.Path(work)
        key = work / "key"
        key.write_text(secrets.token_hex(32))
        with server(args.server, work) as env:
            for name in ("files", "sparse"):
                rows += bench_image(args, work, env, key, args.dir / f"{name}.img")
    print(f"\nchunks of {args.chunk_size}")
    print_table(rows, args.runs)


def bench_image(args, work, env, key, image):
    """Alternates ours and the pipe, so that both see the same machine; the rows of one image."""
    ups, downs, pipes_up, pipes_down = [], [], [], []
    pipe = shutil.which("aws") and shutil.which("zstd")
    for run in range(args.runs):
        repo = f"s3://{BUCKET}/{image.stem}-{run}"
        measured, out = measure([args.binary, "backup", image, "--to", repo, "--volume", image.stem,
                                 "--key-file", key, "--chunk-size", args.chunk_size, "-q", "-o", "json"], env)
        report = json.loads(out)
        measured["stored"] = report["stored_bytes"]
        ups.append(measured)
        target = work / "restored.img"
        measured, _ = measure([args.binary, "restore", repo, report["snapshot_id"], target,
                               "--key-file", key, "-q"], env)
        downs.append(measured)
        compare(image, target)
        target.unlink()
        if pipe:
            pipes_up.append(measure(["sh", "-c", f"zstd -1 -T2 -c {image} | aws s3 cp --only-show-errors - "
                                     f"s3://{BUCKET}/pipe"], env)[0])
            pipes_down.append(measure(["sh", "-c", f"aws s3 cp --only-show-errors s3://{BUCKET}/pipe - | "
                                       f"zstd -d -q -f --sparse -o {target}"], env)[0])
            compare(image, target, holes=False)
            target.unlink()
        drop(work, image.stem)
    size = image.stat().st_size
    rows = [("stockpot", f"{image.stem} up", size, ups), ("stockpot", f"{image.stem} down", size, downs)]
    if pipe:
        rows += [("zstd|aws", f"{image.stem} up", size, pipes_up), ("zstd|aws", f"{image.stem} down", size, pipes_down)]
    return rows


def drop(work, stem):
    """Frees the server's disk between runs."""
    for path in (work / "s3" / BUCKET).glob(f"{stem}-*"):
        shutil.rmtree(path, ignore_errors=True)


def measure(command, env):
    """Wall, CPU seconds and peak memory of a command and its children."""
    start = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), env=env, stdout=subprocess.PIPE)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    if status != 0:
        raise SystemExit(f"failed ({status}): {' '.join(map(str, command))}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}, out


def compare(original, copy, holes=True):
    """Every byte equal, and no data where the original has a hole bigger than a chunk."""
    subprocess.run(["cmp", original, copy], check=True)
    if holes:
        allowed = original.stat().st_blocks * 512 * 1.05 + 64 * MIB
        used = copy.stat().st_blocks * 512
        if used > allowed:
            raise SystemExit(f"{copy}: holes were filled, {used} bytes used, at most {int(allowed)} expected")


@contextlib.contextmanager
def server(binary, work):
    """The S3 server on a free loopback port; yields the environment for its clients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = work / "s3"
    (root / BUCKET).mkdir(parents=True)
    access, secret = "bench", secrets.token_hex(16)
    process = subprocess.Popen(
        [binary, "--port", f"127.0.0.1:{port}", "posix", str(root)],
        env={**os.environ, "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{binary} did not start")
            time.sleep(0.05)
        yield {**os.environ, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret,
               "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
               "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_EC2_METADATA_DISABLED": "true"}
    finally:
        process.terminate()
        process.wait()


def print_table(rows, runs):
    print(f"\nmedian of {runs} runs; every restored image was compared byte by byte\n")
    print(f"{'client':<10} {'what':<12} {'wall s':>8} {'CPU s':>8} {'MiB/s':>8} {'peak MiB':>9} {'stored MiB':>11}")
    for client, what, size, runs_of in rows:
        med = {k: statistics.median(r[k] for r in runs_of) for k in ("wall", "cpu", "rss")}
        stored = f"{statistics.median(r['stored'] for r in runs_of) / MIB:.0f}" if "stored" in runs_of[0] else ""
        print(f"{client:<10} {what:<12} {med['wall']:>8.2f} {med['cpu']:>8.2f} {size / MIB / med['wall']:>8.0f} "
              f"{med['rss'] / MIB:>9.0f} {stored:>11}")
    by = {(c, w): statistics.median(r["wall"] for r in rs) for c, w, _, rs in rows}
    cpu = {(c, w): statistics.median(r["cpu"] for r in rs) for c, w, _, rs in rows}
    ratios = [(w, by[c, w] / by["zstd|aws", w], cpu[c, w] / cpu["zstd|aws", w])
              for c, w in by if c == "stockpot" and ("zstd|aws", w) in by]
    if ratios:
        print("\nratios to the pipe (wall / CPU): " + ", ".join(f"{w} {a:.2f} / {b:.2f}" for w, a, b in ratios))
    else:
        print("\n`aws` or `zstd` is not installed: no row of the pipe to compare with (pip install awscli; apt-get install zstd)")


if __name__ == "__main__":
    main()
