#!/usr/bin/env python3
"""Where the time of a full upload goes: a flame graph of `stockpot backup` of image A, by perf.

usage: flame.py --binary STOCKPOT --server VERSITYGW --inferno DIR [--dir DIR] [--out FILE.svg]

The image and the bucket are in memory where there is room, as in run.py. What zstd, the kernel and others
have of the CPU time goes to standard output.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import tempfile

import clients
import images
from run import MEMORY, MEMORY_NEEDED, memory_available
from server import Server

RECORD = "record --freq 499 --call-graph dwarf,16384"
# Whose a function is, by its name; the first that fits.
PARTS = (
    ("kernel (reading, sending)", r"^\[k\]"),
    ("zstd", r"ZSTD_|HUF_|FSE_|HIST_"),
    ("BLAKE3", "blake3"),
    ("AES-256-GCM", "gcm|aes"),
    ("CRC32C", "crc"),
)
TITLE = "stockpot backup: full upload of image A, CPU time"


def main() -> None:
    args = arguments()
    images.make(args.dir, ["A"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    work_in = MEMORY if memory_available() >= MEMORY_NEEDED else "/var/tmp"
    with tempfile.TemporaryDirectory(dir=work_in, prefix="stockpot-flame-") as work:
        work = pathlib.Path(work)
        subprocess.run(["cp", "--sparse=always", args.dir / "A.img", work], check=True)
        server = Server(args.server, work)
        try:
            upload(args, server, work)
        finally:
            server.stop()
        shares(work)
    print(f"flame graph: {args.out}")


def upload(args, server, work) -> None:
    """Records one full upload, and draws it."""
    client = clients.Stockpot(args.binary, server, work)
    environment = server.environment()
    subprocess.run(list(map(str, client.set_up)), env=environment, check=True, stdout=subprocess.DEVNULL)
    command = ["perf", *RECORD.split(), "--output", work / "perf.data", "--", *client.full(work / "A.img")]
    subprocess.run(list(map(str, command)), env=environment, check=True, stdout=subprocess.DEVNULL)
    stacks = ["perf", "script", "--input", work / "perf.data", "--no-inline"]
    fold = [args.inferno / "inferno-collapse-perf"]
    draw = [args.inferno / "inferno-flamegraph", "--deterministic", "--title", TITLE, "--countname", "cycles", "--minwidth", "0.3"]
    with args.out.open("wb") as out:
        pipe = subprocess.Popen(list(map(str, stacks)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        folded = subprocess.Popen(list(map(str, fold)), stdin=pipe.stdout, stdout=subprocess.PIPE)
        subprocess.run(list(map(str, draw)), stdin=folded.stdout, stdout=out, check=True)
    if pipe.wait() or folded.wait():
        raise SystemExit("what perf recorded could not be read")


def shares(work) -> None:
    """Prints whose functions the samples were in."""
    report = subprocess.run(["perf", "report", "--input", work / "perf.data", "--no-children", "--call-graph", "none",
                             "--field-separator", ";", "--sort", "symbol", "--stdio"],
                            capture_output=True, text=True, check=True).stdout
    found = collections.Counter()
    for line in report.splitlines():
        if line.strip() and not line.startswith("#"):
            share, symbol = line.split(";")[:2]
            found[next((name for name, mark in PARTS if re.search(mark, symbol)), "everything else")] += float(share.strip(" %"))
    for name, share in found.most_common():
        print(f"{share:5.1f} %  {name}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--inferno", required=True, type=pathlib.Path, help="where inferno's programs are")
    parser.add_argument("--dir", default="/var/tmp/stockpot-bench", type=pathlib.Path)
    parser.add_argument("--out", default="target/bench/full-upload.svg", type=pathlib.Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
