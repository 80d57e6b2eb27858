#!/usr/bin/env python3
"""What a killed backup costs: image B is sent, killed (-9) at places drawn at random, and sent again.

usage: killed.py --binary STOCKPOT --server VERSITYGW [--dir DIR] [--runs N] [--seed N] [--out FILE.md]

What was sent when it was killed, what of that the second backup used, what was sent twice, and the second backup's seconds go
to standard output and FILE.md. What is restored afterwards is compared byte by byte.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import subprocess
import tempfile
import time

import clients
import images
from run import MEMORY, MEMORY_NEEDED, memory_available
from server import Server

MIB = 1 << 20
HEAD = """| killed when it had sent, MiB | used again, MiB | sent twice, MiB | second backup, s |
| ---: | ---: | ---: | ---: |"""


def main() -> None:
    args = arguments()
    images.make(args.dir, ["B"])
    chance = random.Random(args.seed)
    image = args.dir / "B.img"
    lines = [HEAD]
    print(HEAD)
    work_in = MEMORY if memory_available() >= MEMORY_NEEDED else "/var/tmp"
    with tempfile.TemporaryDirectory(dir=work_in, prefix="stockpot-killed-") as work:
        work = pathlib.Path(work)
        server = Server(args.server, work)
        try:
            client = clients.Stockpot(args.binary, server, work)
            for run in range(args.runs):
                # One in each part of the way, so that early and late kills are among them.
                share = (run + chance.random()) / args.runs
                lines.append(once(client, server, image, work / "restored.img", f"kill-{run}", share))
                print(lines[-1], flush=True)
        finally:
            server.stop()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n")
    print(f"table: {args.out}")


def once(client, server, image, restored, name, share) -> str:
    """One backup killed when `share` of the image was sent, and the one that goes on; a line of the table."""
    client.begin(name)
    quietly(client.set_up, server)
    before = on_server(server)
    wanted = before + share * image.stat().st_size
    process = subprocess.Popen(list(map(str, client.full(image))), env=server.environment(), stdout=subprocess.DEVNULL)
    while on_server(server) < wanted and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    if process.wait() == 0:
        raise SystemExit(f"{name}: it was done before it was killed")
    sent = settled(server) - before
    start = time.monotonic()
    output = quietly(client.full(image), server)
    seconds = time.monotonic() - start
    client.note(output)
    used = json.loads(output)["adopted_bytes"]
    quietly(client.restore(restored), server)
    images.require_same(image, restored)
    restored.unlink()
    server.drop(client.prefix)
    return f"| {sent / MIB:.0f} | {used / MIB:.0f} | {(sent - used) / MIB:.0f} | {seconds:.2f} |"


def quietly(command, server) -> bytes:
    return subprocess.run(list(map(str, command)), env=server.environment(), check=True, stdout=subprocess.PIPE).stdout


def on_server(server) -> int:
    """Bytes of all objects and of all parts of uploads that are open."""
    total = 0
    for directory, _, names in os.walk(server.bucket):
        for name in names:
            # Parts become an object while one looks.
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(directory, name)).st_size
    return total


def settled(server) -> int:
    """What is there when the requests that were under way have come to an end."""
    last = -1
    while (now := on_server(server)) != last:
        last = now
        time.sleep(0.3)
    return now


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--dir", default="/var/tmp/stockpot-bench", type=pathlib.Path)
    parser.add_argument("--runs", default=10, type=int)
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--out", default="target/bench/killed.md", type=pathlib.Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
