#!/usr/bin/env python3
"""Benchmarks of backup and restore against a real S3 server on this machine, side by side with others.

usage: run.py --binary STOCKPOT --server VERSITYGW [--dir DIR] [--work DIR] [--runs N] [--images A,B,C] [--growth 1,4,16,64,256,1024]
              [--peers pipe,restic,rustic,borg] [--aws AWS] [--rustic RUSTIC] [--out DIR] [-- OPTIONS OF stockpot backup]

In turn, N times: full upload, unchanged, A to A2 told and not told what changed, restore; each restored image is compared
byte by byte. Medians of wall and CPU seconds, CPU seconds of the server, peak memory, bytes stored and requests go to
standard output, and with plots to DIR/report.html (results.json beside it has every run).

Where 16 GiB of memory are free, images, bucket and restored files are in memory while it runs, so that programs are
compared and not the disk's caches (stockpot reads past the page cache and flushes what it restored; the pipe does neither).
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import clients
import images
import report
from server import Server

MIB = 1 << 20
MEMORY = "/dev/shm"
MEMORY_NEEDED = 16 << 30


def main() -> None:
    args = arguments()
    in_memory = args.work is None and memory_available() >= MEMORY_NEEDED
    work_in = args.work or (MEMORY if in_memory else "/var/tmp")
    print(f"images, bucket and restored files are in {work_in}" + ("" if in_memory else ": the disk is part of the figures"))
    # Ended from outside, it stops its server and takes its files away all the same.
    signal.signal(signal.SIGTERM, lambda *_: exit("ended by a signal"))
    growth = [f"G{gib}" for gib in split(args.growth)]
    needed = {name for name in split(args.images)} | set(growth)
    if "A" in needed:
        needed.add("A2")
    images.make(args.dir, sorted(needed))
    results = []
    with tempfile.TemporaryDirectory(dir=work_in, prefix="stockpot-bench-") as work:
        work = pathlib.Path(work)
        server = Server(args.server, work)
        try:
            bench = Bench(args, server, work, results, in_memory)
            peers, missing = clients.peers(split(args.peers), server, work, args.aws, args.rustic)
            for name in missing:
                print(f"{name} is not installed here: no row of it")
            ours = clients.Stockpot(args.binary, server, work, args.options)
            for image in split(args.images):
                bench.compare([ours, *peers], image)
            for image in growth:
                bench.compare([ours], image)
        finally:
            server.stop()
    medians = report.medians(results)
    print(report.text(medians, args.runs))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    (args.out / "table.md").write_text(report.markdown(medians))
    (args.out / "report.html").write_text(report.html(medians, args.runs))
    print(f"\nplots: {args.out / 'report.html'}; table for docs/performance.md: {args.out / 'table.md'}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--dir", default="/var/tmp/stockpot-bench", type=pathlib.Path)
    parser.add_argument("--work", help="where the server keeps its bucket, and images are restored; memory if there is enough")
    parser.add_argument("--runs", default=int(os.environ.get("BENCH_RUNS") or 5), type=int)
    parser.add_argument("--images", default=os.environ.get("BENCH_IMAGES") or "A,B,C")
    parser.add_argument("--growth", default="1,4,16,64,256,1024")
    parser.add_argument("--peers", default=os.environ.get("BENCH_PEERS") or "pipe,restic,rustic,borg")
    parser.add_argument("--aws", default="aws")
    parser.add_argument("--rustic", default="rustic")
    parser.add_argument("--out", default="target/bench", type=pathlib.Path)
    parser.add_argument("options", nargs="*")
    return parser.parse_args()


def memory_available() -> int:
    if not pathlib.Path(MEMORY).is_dir():
        return 0
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def split(text: str):
    return [part for part in text.split(",") if part]


class Bench:
    def __init__(self, args, server, work, results, in_memory):
        self.args, self.server, self.work, self.results = args, server, work, results
        self.in_memory = in_memory

    def compare(self, sides, image) -> None:
        """All clients by turns, so that each meets the same machine."""
        images_in = self.args.dir
        if self.in_memory:
            images_in = self.work / "images"
            images_in.mkdir()
            for name in {image, "A2"} if image == "A" else {image}:
                subprocess.run(["cp", "--sparse=always", self.args.dir / f"{name}.img", images_in], check=True)
        self.images_in = images_in
        for run in range(self.args.runs):
            for client in sides:
                client.begin(f"{image}-{run}")
                self.set_up(client)
                self.one(client, image)
                self.server.drop(client.prefix)
        if self.in_memory:
            shutil.rmtree(images_in)

    def set_up(self, client) -> None:
        if hasattr(client, "set_up"):
            subprocess.run(list(map(str, client.set_up)), env=self.server.environment(), check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def one(self, client, image) -> None:
        first = self.path(image)
        self.measure(client, image, "full", client.full(first))
        newest = first
        if image == "A" and hasattr(client, "again"):
            self.measure(client, image, "unchanged", client.again(first))
            if getattr(client, "knows_told", lambda: False)():
                # From the same base as the one that is not told: on a repository of its own.
                kept = (client.prefix, client.snapshot)
                client.begin(f"{image}-told")
                self.set_up(client)
                client.note(self.quietly(client.full(first)))
                self.measure(client, image, "A to A2, told",
                             client.told(self.path("A2"), self.args.dir / "A2.changed"))
                self.restore(client, image, self.path("A2"), None)
                self.server.drop(client.prefix)
                client.prefix, client.snapshot = kept
            newest = self.path("A2")
            self.measure(client, image, "A to A2", client.again(newest))
        self.restore(client, image, newest, "restore")

    def restore(self, client, image, expected, what) -> None:
        target = self.work / "restored.img"
        if what is None:
            self.quietly(client.restore(target))
        else:
            self.measure(client, image, what, client.restore(target), stores=False)
        images.require_same(expected, target)
        allowed = expected.stat().st_blocks * 512 * 1.05 + 64 * MIB
        used = target.stat().st_blocks * 512
        if isinstance(client, clients.Stockpot) and used > allowed:
            raise SystemExit(f"{target}: holes were filled, {used} bytes used, at most {int(allowed)} expected")
        target.unlink()

    def path(self, image) -> pathlib.Path:
        return self.images_in / f"{image}.img"

    def quietly(self, command) -> bytes:
        return subprocess.run(list(map(str, command)), env=self.server.environment(), check=True,
                              stdout=subprocess.PIPE).stdout

    def measure(self, client, image, what, command, stores=True) -> None:
        """Runs a command and notes what it and its children took."""
        before = self.server.cpu_seconds(), self.server.requests(), self.server.stored_bytes(client.prefix)
        start = time.monotonic()
        process = subprocess.Popen(list(map(str, command)), env=self.server.environment(), stdout=subprocess.PIPE)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        if status != 0:
            raise SystemExit(f"failed ({status}): {' '.join(map(str, command))}")
        if stores and hasattr(client, "note"):
            client.note(output)
        row = {"client": client.name, "image": image, "what": what, "wall_s": wall,
               "cpu_s": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024,
               "server_cpu_s": self.server.cpu_seconds() - before[0], "requests": self.server.requests() - before[1]}
        if stores:
            row["stored_bytes"] = self.server.stored_bytes(client.prefix) - before[2]
        self.results.append(row)
        print(f"{image} {what}, {client.name}: {wall:.2f} s, CPU {row['cpu_s']:.2f} s", flush=True)


if __name__ == "__main__":
    main()
