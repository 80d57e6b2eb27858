"""What the two nodes have to do, in the order in which it is tried."""

import json
import subprocess
import time

from guest import Failed
from nodes import INITIATOR, MIB, STORAGE, STORAGE6, until

STAGE = "/run/stage"
# What node records say, as the initiator's tool prints it.
AUTH = "node.session.auth"


def check(is_so: bool, what: str) -> None:
    if not is_so:
        raise Failed(what)


def a_volume_of_the_worker_lies_on_the_storage_node(lab) -> None:
    worker = lab.worker
    lab.volume = worker.csi(f"create-volume one --size {64 * MIB} --fs ext4 --param pool=far")["volume_id"]
    lab.files = worker.attached(STAGE, lab.volume)
    lab.sum = worker.run(f"dd if=/dev/urandom of={lab.files}/data bs=1M count=40 status=none; sync; sha256sum <{lab.files}/data")
    # IPv4 and IPv6: two paths, one device.
    check(len(worker.sessions()) == 2, f"sessions: {worker.sessions()}")
    portals = worker.run("iscsiadm -m session")
    check(f"{STORAGE}:3260" in portals and f"[{STORAGE6}]:3260" in portals, portals)
    source = worker.run(f"findmnt -no SOURCE {STAGE}")
    check(source.startswith("/dev/mapper/"), source)
    exports = lab.storage.exports()
    check(len(exports) == 1 and exports[0]["mode"] == "rw", f"exports: {exports}")


def it_grows_while_it_is_used(lab) -> None:
    before = int(lab.worker.run(f"stat -fc %b {lab.files}"))
    lab.worker.csi(f"expand-volume {lab.volume} --size {128 * MIB}")
    lab.worker.csi(f"expand-node {lab.volume} {lab.files}")
    after = int(lab.worker.run(f"stat -fc %b {lab.files}"))
    check(after > 1.7 * before, f"{before} blocks became {after}")


def its_snapshot_goes_to_the_bucket_from_the_worker(lab) -> None:
    lab.snapshot = ready(lab, "first", lab.volume)
    check(len(lab.worker.sessions()) == 2, "the snapshot is still attached")
    check(all(":v." in target for target in lab.storage.targets()), f"targets: {lab.storage.targets()}")
    log = (lab.home / "worker-1-daemon.log").read_text()
    check("the cloud copy is committed" in log, "the worker did not send it")


def ready(lab, name: str, volume: str, timeout: float = 120) -> str:
    return lab.worker.csi(f"wait-ready {name} {volume} --param profile=offsite", timeout)["snapshot_id"]


def a_lost_path_is_not_noticed(lab) -> None:
    """The one in use, while the device is read; in the long form also the one that was used then."""
    worker, storage = lab.worker, lab.storage
    device = worker.run(f"findmnt -no SOURCE {STAGE}")
    worker.run(f"""
setsid bash -c 'n=0; while [ ! -e /run/enough ]; do
  dd if={device} of=/dev/null bs=1M iflag=direct status=none || touch /run/failed
  n=$((n + 1)); echo $n >/run/reads.new; mv /run/reads.new /run/reads
done; touch /run/done' >/run/reading.log 2>&1 </dev/null &
""")

    def reads() -> int:
        return int(worker.run("cat /run/reads 2>/dev/null || echo 0"))

    def is_whole() -> bool:
        return worker.run("multipathd show paths raw format '%t' | grep -c ^active || true") == "2"

    for _ in range(2 if lab.is_long else 1):
        until("both paths are there", 60, is_whole)
        if ":" in portal_in_use(worker):
            lose, restore, where = f"ip addr del {STORAGE6}/64 dev vec0", f"ip addr add {STORAGE6}/64 dev vec0 nodad", storage
        else:
            lose, restore, where = f"ip route add blackhole {STORAGE}/32", f"ip route del blackhole {STORAGE}/32", worker
        where.run(lose)
        before = reads()
        # The first may have been under way already.
        until("it is read on", 60, lambda: reads() >= before + 3)
        until("the path is found lost", 60, lambda: not is_whole())
        where.run(restore)
    worker.run("touch /run/enough; while [ ! -e /run/done ]; do sleep 0.05; done; [ ! -e /run/failed ]")
    until("both paths are there", 60, is_whole)


def portal_in_use(worker) -> str:
    """Where the path leads by which most is read now."""
    return worker.run("""
reads() { for disk in /sys/block/sd*; do read -r count _ <$disk/stat; echo "${disk##*/} $count"; done; }
before=$(reads)
sleep 0.5
busiest=$(join <(echo "$before") <(reads) | awk '{ print $3 - $2, $1 }' | sort -n | tail -1 | cut -d' ' -f2)
session=$(readlink -f /sys/block/$busiest/device | grep -o 'session[0-9]*')
cat /sys/class/iscsi_connection/connection${session#session}:0/persistent_address
""")


def others_are_refused(lab) -> None:
    """With the right secrets and another name, with the right name and a wrong secret, without any."""
    script = f"""
target=$(cat /sys/class/iscsi_session/session*/targetname | sed -n 1p)
record=$(find /etc/iscsi/nodes/$target -type f | sed -n 1p)
value() {{ sed -n "s/^{AUTH}.$1 = //p" $record; }}
login() {{ # INTERFACE INITIATOR PASSWORD
  iscsiadm -m iface -I $1 -o new >/dev/null
  [ -z "$2" ] || iscsiadm -m iface -I $1 -o update -n iface.initiatorname -v $2 >/dev/null
  iscsiadm -m node -T $target -p {STORAGE}:3260 -I $1 -o new >/dev/null
  set -- "$1" "$3" $(value username) $(value username_in) $(value password_in)
  local names=(authmethod=CHAP username=$3 password=$2 username_in=$4 password_in=$5) pair
  [ -n "$2" ] || names=(authmethod=None)
  for pair in "${{names[@]}}"; do
    iscsiadm -m node -T $target -p {STORAGE}:3260 -I $1 -o update -n {AUTH}.${{pair%%=*}} -v ${{pair#*=}} >/dev/null
  done
  local code=0
  iscsiadm -m node -T $target -p {STORAGE}:3260 -I $1 -l >/dev/null 2>&1 || code=$?
  [ $code != 0 ] || iscsiadm -m node -T $target -p {STORAGE}:3260 -I $1 -u >/dev/null
  iscsiadm -m node -T $target -p {STORAGE}:3260 -I $1 -o delete >/dev/null
  iscsiadm -m iface -I $1 -o delete >/dev/null
  echo "$1 $code"
}}
login honest "" $(value password)
login stranger iqn.2026-01.test:stranger $(value password)
login liar "" wrong-secret-of-many-letters
login nobody "" ""
"""
    answers = lab.worker.run(script, 90)
    # 24 is a login that was refused, whatever for.
    expected = "honest 0 stranger 24 liar 24 nobody 24"
    check(answers.split() == expected.split(), answers)
    check(len(lab.worker.sessions()) == 2, f"sessions: {lab.worker.sessions()}")


def another_device_behind_the_target_is_refused(lab) -> None:
    """Somebody swaps the device before the login: the worker sees it by the serial number and neither reads nor writes."""
    worker, storage = lab.worker, lab.storage
    volume = worker.csi(f"create-volume swapped --size {64 * MIB} --fs ext4 --param pool=far")["volume_id"]
    storage.run("""
lvcreate --quiet --yes --wipesignatures n --size 64m --name decoy fast
head -c 64M /dev/zero | tr '\\0' x | dd of=/dev/fast/decoy bs=1M iflag=fullblock conv=fsync status=none
decoy=/sys/kernel/config/target/core/iblock_7/decoy
mkdir -p $decoy
echo udev_path=/dev/fast/decoy >$decoy/control
echo 0123456789abcdef >$decoy/wwn/vpd_unit_serial
echo 1 >$decoy/enable
""")
    disks = "ls /sys/block | grep -c ^sd"
    before = worker.run(disks)
    # Without the initiator's daemon no login comes to its end.
    worker.run(f"""
kill -STOP $(pidof iscsid)
mkdir -p /run/swapped
setsid bash -c '{worker.bin}/csi-client --endpoint unix:///run/stockpot/csi.sock stage {volume} /run/swapped --fs ext4
echo $? >/run/swapped.code' >/run/swapped.log 2>&1 </dev/null &
""")
    acl = f"/sys/kernel/config/target/iscsi/*:v.{volume}/tpgt_1/acls/{INITIATOR}/lun_0"
    until("the worker may log in", 30, lambda: storage.run(f"cat {acl}/write_protect 2>/dev/null || true") == "0")
    storage.run(f"""
acl=$(echo {acl})
lun=${{acl%/acls/*}}/lun/lun_0
rm $acl/lun
rm $lun/store
ln -s /sys/kernel/config/target/core/iblock_7/decoy $lun/store
ln -s $lun $acl/lun
""")
    worker.run("kill -CONT $(pidof iscsid)")
    code = until("the worker has an answer", 90, lambda: worker.run("cat /run/swapped.code 2>/dev/null || true"))
    answer = worker.run("cat /run/swapped.log")
    check(code != "0" and "0123456789abcdef" in answer and "another device" in answer, answer)
    # Nothing is left of it, on neither side, and the other device was not touched.
    check(len(worker.sessions()) == 2, f"sessions: {worker.sessions()}")
    check(worker.run(disks) == before, "a disk of it is left")
    check(len(storage.targets()) == 1, f"targets: {storage.targets()}")
    storage.run("""
cmp <(head -c 64M /dev/zero | tr '\\0' x) /dev/fast/decoy
rmdir /sys/kernel/config/target/core/iblock_7/decoy
rmdir /sys/kernel/config/target/core/iblock_7
lvremove --quiet --yes fast/decoy
""")
    worker.attached("/run/swapped", volume)
    worker.detached("/run/swapped", volume)
    worker.csi(f"delete-volume {volume}")


def certificates_are_renewed_meanwhile(lab) -> None:
    """No daemon is started again, and what is attached stays attached."""
    for node in ("storage-1", "worker-1"):
        command = [lab.worker.bin / "stockpot", "pki", "issue", node, "--dir", lab.home / "pki", "--out", lab.home / f"{node}-new"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for file in ("node.pem", "node.key"):
            (lab.home / f"{node}-new" / file).replace(lab.home / node / file)
    lab.worker.csi("list-snapshots")
    volume = lab.worker.csi(f"create-volume renewed --size {8 * MIB} --fs ext4 --param pool=far")["volume_id"]
    lab.worker.csi(f"delete-volume {volume}")
    for node in ("storage-1", "worker-1"):
        log = (lab.home / f"{node}-daemon.log").read_text()
        check(log.count("a renewed certificate is used") == 1, f"{node} did not take its new certificate once")
    check(len(lab.worker.sessions()) == 2, f"sessions: {lab.worker.sessions()}")


def it_is_restored_onto_the_storage_node(lab) -> None:
    worker = lab.worker
    copy = worker.csi(f"create-volume two --size {128 * MIB} --fs ext4 --param pool=far --param sourceCopy=cloud --from-snapshot {lab.snapshot}")["volume_id"]
    files = worker.attached("/run/copy", copy)
    found = worker.run(f"sha256sum <{files}/data")
    check(found == lab.sum, f"{found} is not {lab.sum}")
    worker.detached("/run/copy", copy)
    worker.csi(f"delete-volume {copy}")


def a_killed_storage_node_comes_back_with_its_exports(lab) -> None:
    """In the middle of an upload. The upload ends well or says why; the next one ends well."""
    slow_down(lab)
    for n in range(4 if lab.is_long else 1):
        kill_in_an_upload(lab, f"second-{n}")
    lab.worker.run(f"touch {lab.files}/written; sync")


def slow_down(lab) -> None:
    """So that there is a middle."""
    worker = lab.worker
    worker.detached(STAGE, lab.volume)
    worker.stop_daemon()
    worker.profile(3 * MIB)
    worker.start_daemon()
    lab.files = worker.attached(STAGE, lab.volume)


def kill_in_an_upload(lab, name: str) -> None:
    worker, storage = lab.worker, lab.storage
    worker.run(f"dd if=/dev/urandom of={lab.files}/second bs=1M count=24 status=none; sync")
    worker.csi(f"create-snapshot {name} {lab.volume} --param profile=offsite")
    until("the snapshot is attached", 60, lambda: any(":s." in target for target in worker.sessions()))
    before = sorted(storage.targets())
    check(len(before) == 2, f"targets: {before}")
    time.sleep(1)
    storage.crash()
    storage.boot(600)
    storage.prepare()
    until("the exports are back", 60, lambda: sorted(storage.targets()) == before)
    try:
        ready(lab, name, lab.volume, 240)
        print("          the upload went on by itself", flush=True)
    except Failed as failed:
        check('"code"' in str(failed), str(failed))
        print("          the upload failed: " + str(failed).strip().splitlines()[-1][:300], flush=True)
        ready(lab, name, lab.volume, 240)
    until("it is detached", 60, lambda: len(worker.sessions()) == 2)
    check(worker.run(f"sha256sum <{lab.files}/data") == lab.sum, "the volume's content changed")


def it_is_read_on_the_storage_node(lab) -> None:
    lab.worker.detached(STAGE, lab.volume)
    check(lab.storage.targets() == [], f"targets: {lab.storage.targets()}")
    found = lab.storage.run(f"""
lv=$(lvs --noheadings -o lv_name -S 'lv_name=~"^stockpot.v"' fast | head -1 | tr -d ' ')
lvchange -ay -K fast/$lv
mkdir -p /run/look
mount -o ro,noload /dev/fast/$lv /run/look
sha256sum </run/look/data
umount /run/look
lvchange -an fast/$lv
""")
    check(found.splitlines()[-1] == lab.sum, found)


def nothing_is_left(lab) -> None:
    worker, storage = lab.worker, lab.storage
    for snapshot in worker.csi("list-snapshots"):
        worker.csi(f"delete-snapshot {snapshot['snapshot_id']}")
    worker.csi(f"delete-volume {lab.volume}")
    for name, found in {
        "sessions": worker.sessions(),
        "node records": worker.run("ls /etc/iscsi/nodes 2>/dev/null || true").split(),
        "SCSI disks": worker.run("ls -d /sys/block/sd* 2>/dev/null || true").split(),
        "multipath maps": worker.run("dmsetup ls --target multipath | grep -v '^No devices' || true").split(),
        "targets": storage.targets(),
        "backstores": storage.run("ls -d /sys/kernel/config/target/core/iblock_* 2>/dev/null || true").split(),
        "exports": [json.dumps(export) for export in storage.exports()],
        "logical volumes": storage.run("""lvs --noheadings -o lv_name -S 'lv_name=~"^stockpot"' fast""").split(),
    }.items():
        check(found == [], f"{name} are left: {found}")
    storage.run("kill $(cat /run/daemon.pid)")
    worker.stop_daemon()


STEPS = [
    ("a volume of the worker lies on the storage node", a_volume_of_the_worker_lies_on_the_storage_node),
    ("it grows while it is used", it_grows_while_it_is_used),
    ("its snapshot goes to the bucket from the worker", its_snapshot_goes_to_the_bucket_from_the_worker),
    ("a lost path is not noticed", a_lost_path_is_not_noticed),
    ("others are refused", others_are_refused),
    ("another device behind the target is refused", another_device_behind_the_target_is_refused),
    ("certificates are renewed meanwhile", certificates_are_renewed_meanwhile),
    ("it is restored onto the storage node", it_is_restored_onto_the_storage_node),
    ("a killed storage node comes back with its exports", a_killed_storage_node_comes_back_with_its_exports),
    ("it is read on the storage node", it_is_read_on_the_storage_node),
    ("nothing is left", nothing_is_left),
]
