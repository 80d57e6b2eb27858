#!/usr/bin/env python3
"""Two booted hosts: a storage node, and a worker whose volumes lie there (`make two-nodes`).

usage: run.py --bin DIRECTORY [--long]

The worker's volumes come over iSCSI with CHAP in both directions, its snapshots go from there to a bucket and come
back, and paths and whole hosts are lost on the way. Each step is printed with its seconds; the exit code is 0 only if
all did what they have to, and nothing is left at the end. Needs the test host (`make setup`).
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from guest import FIXTURES, Failed
from nodes import Bucket, Storage, Worker, make_certificates, until
from steps import STEPS


class Lab:
    """Both hosts, the bucket, and what the steps leave for one another."""

    def __init__(self, home: pathlib.Path, bin_dir: pathlib.Path, is_long: bool):
        self.home = home
        self.is_long = is_long
        self.net = f"n{os.getpid() % 1000000}"
        make_certificates(home, bin_dir)
        self.storage = Storage(home, bin_dir, self.net)
        self.worker = Worker(home, bin_dir, self.net)
        self.bucket = None

    def boot(self) -> None:
        self.storage.boot(600)
        self.worker.boot(600)
        # The first boot makes the network.
        namespace = pathlib.Path(f"/run/netns/th-{self.net}")
        until("there is a network", 60, namespace.exists)
        self.storage.prepare()
        self.bucket = Bucket(self.home, self.worker.bin, self.net)
        self.worker.prepare()

    def end(self) -> None:
        for guest in (self.worker, self.storage):
            guest.end()
        if self.bucket:
            self.bucket.end()
        subprocess.run([FIXTURES / "testhost", "netdel", self.net], check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="where stockpot, csi-client and s3-test-server are")
    parser.add_argument("--long", action="store_true", help="each path is lost, and the storage node is killed four times")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    home = pathlib.Path(tempfile.mkdtemp(prefix="stockpot-nodes-"))
    lab, failed, name = None, None, "certificates"
    try:
        lab = Lab(home, args.bin.resolve(), args.long)
        for name, step in [("two hosts boot", lambda lab: lab.boot()), *STEPS]:
            started = time.monotonic()
            step(lab)
            print(f"{time.monotonic() - started:6.1f} s  {name}", flush=True)
    except (Failed, subprocess.SubprocessError) as error:
        failed = error
        print(f"FAILED  {name}\n{error}", flush=True)
        for log in sorted(home.glob("*-daemon.log")):
            print(f"-- {log.name}\n{log.read_text(errors='replace')[-6000:]}")
    finally:
        if lab:
            lab.end()
        shutil.rmtree(home)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
