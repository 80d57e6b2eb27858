//! Records: in and out, out of place, damaged, oversized, from the future.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::format::{
    ids::{ObjectId, Run, SnapshotId, VolumeId, intent_key},
    limits::ADOPTS_MAX,
    manifest::{ChunkCounts, Manifest, Reason, SnapshotRecord, Tombstone, now},
    protocol::{AdoptedRun, Condemned, Intent},
    testing::{pack_name, sealer},
};

fn manifest() -> Manifest {
    Manifest {
        snapshot_id: SnapshotId::new("snap-1").unwrap(),
        volume_id: VolumeId::new("vol-1").unwrap(),
        volume_name: "data of \"web\"".to_owned(),
        size_bytes: 200_000,
        chunk_size_bytes: 65_536,
        base: None,
        reason: Reason::Full,
        why: String::new(),
        run: Run([2; 16]),
        cut_at: now(),
        started_at: now(),
        committed_at: now(),
        map: None,
        pack_list: None,
        data_bytes: 0,
        stored_bytes: 0,
        chunks: ChunkCounts {
            total: 4,
            mapped: 0,
            stored: 0,
        },
        metadata: [("fs".to_owned(), ",\"hash\":\"x\"}\n".to_owned())].into(),
        tool: "test".to_owned(),
        requires: Vec::new(),
        lock: None,
    }
}

const KEY: &str = "snapshots/vol-1/snap-1.json";

proptest! {
    #[test]
    fn any_flipped_or_missing_byte_is_found(sealed: bool, at: prop::sample::Index, bit in 0..8_u8) {
        let sealer = sealer(sealed);
        let record = sealer.seal_record(KEY, &manifest()).unwrap();
        let mut bytes = record.bytes;
        let at = at.index(bytes.len());
        prop_assert!(SnapshotRecord::open(&sealer, KEY, &bytes[..at]).is_err());
        bytes[at] ^= 1 << bit;
        prop_assert!(SnapshotRecord::open(&sealer, KEY, &bytes).is_err(), "byte {at}");
    }
}

#[test]
fn records_come_back() {
    for sealed in [false, true] {
        let sealer = sealer(sealed);
        let manifest = manifest();
        let written = sealer.seal_record(KEY, &manifest).unwrap();
        let again = sealer.seal_record(KEY, &manifest).unwrap();
        assert_ne!(written.nonce, again.nonce);
        let read = SnapshotRecord::open(&sealer, KEY, &written.bytes).unwrap();
        assert_eq!(
            read,
            SnapshotRecord::Manifest(Box::new(manifest), written.nonce)
        );
        assert_eq!(
            String::from_utf8_lossy(&written.bytes).contains("web"),
            !sealed
        );
        let head = peek(&written.bytes).unwrap();
        assert_eq!(
            (head.kind, head.nonce),
            (RecordKind::Manifest, written.nonce)
        );
        assert_eq!(head.key_id.is_some(), sealed);
    }
}

#[test]
fn records_work_in_their_place_only() {
    let tombstone = Tombstone {
        snapshot_id: SnapshotId::new("snap-1").unwrap(),
        volume_id: VolumeId::new("vol-1").unwrap(),
        deleted_at: now(),
        reason: "deleted".to_owned(),
        pack_list: None,
        tool: "test".to_owned(),
    };
    for sealed in [false, true] {
        let sealer = sealer(sealed);
        assert!(
            sealer
                .seal_record("snapshots/vol-1/snap-2.json", &tombstone)
                .is_err()
        );
        let written = sealer.seal_record(KEY, &tombstone).unwrap();
        let read = SnapshotRecord::open(&sealer, KEY, &written.bytes).unwrap();
        assert!(matches!(read, SnapshotRecord::Tombstone(..)));
        let elsewhere =
            SnapshotRecord::open(&sealer, "snapshots/vol-1/snap-2.json", &written.bytes);
        assert!(matches!(elsewhere, Err(FormatError::Damaged { .. })));
        assert!(sealer.open_record::<Manifest>(KEY, &written.bytes).is_err());
        // A tombstone that is made to look like a manifest, in its visible part.
        let text = String::from_utf8(written.bytes).unwrap();
        let forged = text.replacen("tombstone", "manifest", 1);
        assert!(SnapshotRecord::open(&sealer, KEY, forged.as_bytes()).is_err());
    }
    let written = sealer(true).seal_record(KEY, &tombstone).unwrap();
    let opened = SnapshotRecord::open(&sealer(false), KEY, &written.bytes);
    assert!(matches!(opened, Err(FormatError::Sealing { .. })));
}

#[test]
fn newer_formats_and_features_are_told_apart_from_damage() {
    let sealer = sealer(true);
    let mut newer = manifest();
    newer.requires = vec!["teleport".to_owned()];
    let written = sealer.seal_record(KEY, &newer).unwrap();
    let error = SnapshotRecord::open(&sealer, KEY, &written.bytes).unwrap_err();
    assert!(error.to_string().contains("\"teleport\""), "{error}");
    let text = String::from_utf8(sealer.seal_record(KEY, &manifest()).unwrap().bytes).unwrap();
    let future = text.replacen("\"format\":1", "\"format\":2", 1);
    let error = SnapshotRecord::open(&sealer, KEY, future.as_bytes()).unwrap_err();
    assert!(matches!(error, FormatError::Newer { .. }), "{error}");
}

#[test]
fn limits_hold_when_writing() {
    let sealer = sealer(true);
    let mut big = manifest();
    big.metadata = BTreeMap::from([("k".to_owned(), "v".repeat(16 << 10))]);
    assert!(matches!(
        sealer.seal_record(KEY, &big),
        Err(FormatError::Limit { .. })
    ));
    big.metadata = BTreeMap::from([("k".to_owned(), "\u{1}".repeat(4 << 10))]);
    assert!(matches!(
        sealer.seal_record(KEY, &big),
        Err(FormatError::Limit { .. })
    ));
    // The largest metadata that is allowed makes a manifest that is.
    big.metadata = BTreeMap::from([("k".to_owned(), "v".repeat((16 << 10) - 8))]);
    assert!(sealer.seal_record(KEY, &big).unwrap().bytes.len() < 64 << 10);
    let mut wrong = manifest();
    wrong.chunks.total = 5;
    assert!(sealer.seal_record(KEY, &wrong).is_err());
    wrong = manifest();
    wrong.chunks.mapped = 1;
    assert!(sealer.seal_record(KEY, &wrong).is_err());
}

#[test]
fn intents_and_condemned_lists_come_back() {
    let longest = AdoptedRun {
        volume_id: VolumeId::new("v".repeat(63)).unwrap(),
        snapshot_id: SnapshotId::new("s".repeat(63)).unwrap(),
        run: Run([2; 16]),
    };
    let intent = Intent {
        snapshot_id: SnapshotId::new("snap-1").unwrap(),
        volume_id: VolumeId::new("vol-1").unwrap(),
        run: Run([2; 16]),
        base: Some(manifest().as_base(Nonce([3; 16]))),
        adopts: vec![longest; ADOPTS_MAX],
        started_at: now(),
        host: "node-1".to_owned(),
        tool: "test".to_owned(),
        void: true,
    };
    let key = intent_key(&intent.snapshot_id, intent.run);
    let condemned = Condemned {
        prune_id: ObjectId::new("prune-1").unwrap(),
        packs: (0..1000).map(pack_name).collect(),
        created_at: now(),
        tool: "test".to_owned(),
    };
    for sealed in [false, true] {
        let sealer = sealer(sealed);
        let written = sealer.seal_record(&key, &intent).unwrap();
        let read: (Intent, Nonce) = sealer.open_record(&key, &written.bytes).unwrap();
        assert_eq!(read, (intent.clone(), written.nonce));
        let written = sealer
            .seal_record("condemned/prune-1.json", &condemned)
            .unwrap();
        let read: (Condemned, Nonce) = sealer
            .open_record("condemned/prune-1.json", &written.bytes)
            .unwrap();
        assert_eq!(read.0, condemned);
    }
}

#[test]
fn a_hostile_manifest_is_refused_without_a_panic() {
    let sealer = sealer(false);
    let honest = serde_json::to_string(&manifest()).unwrap();
    let root = |level: u64, offset: u64| {
        let pack = pack_name(0).object_key();
        let hash = "00".repeat(32);
        format!(
            "{{\"level\":{level},\"pack\":\"{pack}\",\"offset\":{offset},\"length\":40,\"hash\":\"{hash}\"}}"
        )
    };
    let both = |root: &str| format!("\"map\":{root},\"pack_list\":{root}");
    let mapped = honest
        .replace("\"mapped\":0", "\"mapped\":1")
        .replace("\"data_bytes\":0", "\"data_bytes\":65536");
    let with = |root: &str| mapped.replace("\"map\":null,\"pack_list\":null", &both(root));
    let open = |body: &str| {
        let head = format!(
            "{{\"stockpot\":\"manifest\",\"format\":1,\"nonce\":\"{}\",\"body\":{body}",
            "33".repeat(16)
        );
        let object = format!(
            "{head},\"hash\":\"{}\"}}\n",
            super::record_hash(KEY, head.as_bytes())
        );
        SnapshotRecord::open(&sealer, KEY, object.as_bytes())
    };
    open(&honest).unwrap();
    open(&with(&root(0, 16))).unwrap();
    for body in [
        with(&root(255, 16)),
        with(&root(1, 16)),
        with(&root(256, 16)),
        with(&root(0, 0)),
        with(&root(0, 4_294_967_295)),
        honest.replace("200000", "0"),
        honest.replace("200000", "18446744073709551615"),
        honest.replace("\"chunk_size_bytes\":65536", "\"chunk_size_bytes\":0"),
        honest.replace("\"mapped\":0", "\"mapped\":18446744073709551615"),
        honest.replace("\"total\":4", "\"total\":0"),
        honest.replace("\"snap-1\"", "\"../x\""),
        "null".to_owned(),
        "[".repeat(200),
    ] {
        assert!(open(&body).is_err(), "{body}");
    }
}
