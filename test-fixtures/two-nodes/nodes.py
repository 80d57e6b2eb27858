"""The two nodes: what each is made of, its daemon, and what an orchestrator asks it."""

import json
import pathlib
import subprocess
import time

from guest import Failed, Guest

MIB = 1 << 20
STORAGE, WORKER = "10.77.0.11", "10.77.0.12"
STORAGE6, WORKER6 = "fd77::11", "fd77::12"
SERVER = "http://10.77.0.1:9000"
INITIATOR = "iqn.2026-01.test:worker"


def image(path: pathlib.Path, size: int) -> pathlib.Path:
    with open(path, "wb") as file:
        file.truncate(size)
    return path


class Storage(Guest):
    """The storage node: a volume group, targets, and the service for other nodes. Its state survives a crash."""

    def __init__(self, home: pathlib.Path, bin_dir: pathlib.Path, net: str):
        disks = [image(home / "pool.img", 1 << 30), image(home / "state.img", 64 * MIB)]
        options = [word for disk in disks for word in ("--disk", str(disk))]
        super().__init__("storage-1", home, f"{net}:{STORAGE}/24", options)
        self.bin = bin_dir
        (home / "storage.yaml").write_text(f"""
nodeName: storage-1
stateDir: /run/state/stockpot
socket: /run/stockpot/manager.sock
profilesDir: {home}/none
credentialsDir: {home}/storage-1
pools: [{{name: fast, driver: lvm-thin, volumeGroup: fast, thinPool: pool, poolSizeBytes: {700 * MIB}}}]
exports: {{iqnPrefix: "iqn.2026-01.test:storage-1", portals: ["{STORAGE}:3260", "[{STORAGE6}]:3260"]}}
storageNode: {{listen: ["{STORAGE}:7420"], allow: [worker-1]}}
certificate: {{file: node.pem, keyFile: node.key, caFile: ca.pem}}
""")

    def prepare(self) -> None:
        """What a boot begins with; the first makes the file system and the volume group."""
        first = "mkfs.ext4 -q /dev/ubdb; vgcreate --quiet --yes fast /dev/ubda >/dev/null" if self.boots == 1 else ""
        self.run(f"""
ip addr add {STORAGE6}/64 dev vec0 nodad
{first}
mkdir -p /run/state
mount /dev/ubdb /run/state
""")
        self.start_daemon()

    def start_daemon(self) -> None:
        daemon(self, self.home / "storage.yaml")
        self.run("for i in $(seq 300); do [ -S /run/stockpot/manager.sock ] && exit; sleep 0.05; done; exit 1")

    def exports(self) -> list[dict]:
        out = self.run(f"{self.bin}/stockpot export list -o json --socket /run/stockpot/manager.sock")
        return json.loads(out[out.index("["):])

    def targets(self) -> list[str]:
        return self.run("ls /sys/kernel/config/target/iscsi 2>/dev/null | grep ^iqn || true").split()


class Worker(Guest):
    """The worker: an initiator with multipath, the CSI frontend, and a pool that is the storage node's."""

    def __init__(self, home: pathlib.Path, bin_dir: pathlib.Path, net: str):
        super().__init__("worker-1", home, f"{net}:{WORKER}/24", ["--iscsid", "--iqn", INITIATOR])
        self.bin = bin_dir
        self.profile(None)

    def profile(self, rate: int | None) -> None:
        (self.home / "worker.yaml").write_text(f"""
nodeName: worker-1
stateDir: /run/state
socket: /run/stockpot/manager.sock
profilesDir: {self.home}/profiles
credentialsDir: {self.home}/worker-1
pools: [{{name: far, driver: remote, node: storage-1, address: "{STORAGE}:7420", pool: fast}}]
certificate: {{file: node.pem, keyFile: node.key, caFile: ca.pem}}
transfers: {{pauseFirstSeconds: 1, pauseMaxSeconds: 2, giveUpAfterSeconds: 600{f", uploadBytesPerSecondMax: {rate}" if rate else ""}}}
csi: {{endpoint: "unix:///run/stockpot/csi.sock"}}
""")

    def prepare(self) -> None:
        self.run(f"""
ip addr add {WORKER6}/64 dev vec0 nodad
modprobe dm-multipath
multipathd
for i in $(seq 200); do multipathd show config local >/dev/null 2>&1 && exit; sleep 0.05; done
exit 1
""")
        self.start_daemon()

    def start_daemon(self) -> None:
        daemon(self, self.home / "worker.yaml")
        self.csi("--wait 60 info")

    def stop_daemon(self) -> None:
        self.run("kill $(cat /run/daemon.pid); while kill -0 $(cat /run/daemon.pid) 2>/dev/null; do sleep 0.05; done")

    def csi(self, command: str, timeout: float = 120):
        """What the CSI driver answers."""
        out = self.run(f"{self.bin}/csi-client --endpoint unix:///run/stockpot/csi.sock {command}", timeout)
        return json.loads(out) if out else None

    def sessions(self) -> list[str]:
        """Targets of this host's iSCSI sessions, one entry for each session."""
        return self.run("cat /sys/class/iscsi_session/session*/targetname 2>/dev/null || true").split()

    def attached(self, staging: str, volume: str, fs: str = "ext4") -> str:
        """Stages a volume and shows it; where."""
        target = f"{staging}-files"
        self.run(f"mkdir -p {staging}")
        self.csi(f"stage {volume} {staging} --fs {fs}")
        self.csi(f"publish {volume} {staging} {target} --fs {fs}")
        return target

    def detached(self, staging: str, volume: str) -> None:
        self.csi(f"unpublish {volume} {staging}-files")
        self.csi(f"unstage {volume} {staging}")


def daemon(guest: Guest, config: pathlib.Path) -> None:
    log = guest.home / f"{guest.name}-daemon.log"
    guest.run(f"""
mkdir -p /run/stockpot
setsid {guest.bin}/stockpot serve --config {config} >>{log} 2>&1 </dev/null &
echo $! >/run/daemon.pid
""")


def make_certificates(home: pathlib.Path, bin_dir: pathlib.Path) -> None:
    pki = [bin_dir / "stockpot", "pki"]
    subprocess.run([*pki, "init", "--dir", home / "pki"], check=True, stdout=subprocess.DEVNULL)
    for node in ("storage-1", "worker-1"):
        command = [*pki, "issue", node, "--dir", home / "pki", "--out", home / node]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Bucket:
    """An S3 server beside the two, on the machine itself."""

    def __init__(self, home: pathlib.Path, bin_dir: pathlib.Path, net: str):
        self.log = open(home / "s3.log", "w")
        keys = {"AWS_ACCESS_KEY_ID": "nodes", "AWS_SECRET_ACCESS_KEY": "nodes-secret"}
        command = ["ip", "netns", "exec", f"th-{net}", bin_dir / "s3-test-server", "--listen", "10.77.0.1:9000",
                   "--bucket", "backups"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=keys | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        profiles = home / "profiles"
        profiles.mkdir()
        (profiles / "offsite.yaml").write_text(f"""
name: offsite
snapshotProperties:
  topology:
    bucket: backups
    prefix: nodes
    endpoint: {SERVER}
    region: us-east-1
    pathStyle: path
    credentials: {{file: credentials}}
    key: {{file: key}}
""")
        for name, text in (("credentials", "[default]\naws_access_key_id = nodes\naws_secret_access_key = nodes-secret\n"), ("key", "k" * 40)):
            path = home / "worker-1" / name
            path.write_text(text)
            path.chmod(0o600)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()


def until(what: str, seconds: float, reached):
    """Waits until something is so; what `reached` says then."""
    deadline = time.monotonic() + seconds
    while True:
        found = reached()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s until {what}")
        time.sleep(0.2)
