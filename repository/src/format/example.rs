//! The worked example of the specification: a volume of four chunks in a repository of its own, made and read again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;

use super::{
    crc32c::crc32c,
    crypto::Sealer,
    frame::{FrameDecoder, FrameEncoder, FrameKind},
    ids::{MARKER_KEY, Nonce, ObjectId, PackName},
    keys::KeySource,
    list::{PackListReader, build_pack_list},
    list_page::PackEntry,
    manifest::{ChunkCounts, Manifest, Reason, RootRef, SnapshotRecord},
    map::{MapBuilder, MapReader},
    marker::Marker,
    pack_builder::{FrameInfo, PackBuilder},
    pack_index::ScannedRange,
    slot::{KdfCost, Opened, Slot},
    testing::{MemoryPages, MemorySource, key, pack_name, sealer},
};

pub(super) type Objects = BTreeMap<String, Vec<u8>>;

const CHUNK: usize = 65_536;
const SLOT_KEY: &str = "keys/main.json";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef\n";

/// 200,000 bytes: a chunk of `A`, two holes, and a last chunk of `B` that is cut off.
pub(super) const VOLUME: [&[u8]; 3] = [
    &[b'A'; CHUNK],
    &[0; 2 * CHUNK],
    &[b'B'; 200_000 - 3 * CHUNK],
];

/// All objects of the repository.
pub(super) fn example(sealed: bool) -> Objects {
    let sealer = sealer(sealed);
    let mut objects = Objects::new();
    let mut marker = Marker::new(&sealer, 65_536, serde_json::json!({})).unwrap();
    marker.created_at = time();
    marker.tool = "stockpot".to_owned();
    objects.insert(MARKER_KEY.to_owned(), marker.encode(&sealer).unwrap());
    if sealed {
        let source = KeySource::from_secret(SECRET).unwrap();
        let (id, repository) = (ObjectId::new("main").unwrap(), sealer.repository());
        let (cost, salt, nonce) = (KdfCost::default(), [0x44; 32], [0x55; 12]);
        let slot = Slot::seal_with(&id, repository, &source, &key(), cost, time(), salt, nonce);
        objects.insert(SLOT_KEY.to_owned(), slot.unwrap());
    }
    let (packs, map, pack_list) = packs(&sealer);
    let manifest = manifest(&packs, map, pack_list);
    let object_key = manifest.object_key();
    let record = sealer
        .seal_record_with(&object_key, &manifest, Nonce([0x33; 16]))
        .unwrap();
    objects.insert(object_key, record.bytes);
    objects.extend(
        packs
            .into_iter()
            .map(|(name, bytes)| (name.object_key(), bytes)),
    );
    objects
}

fn time() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().unwrap()
}

type Packs = BTreeMap<PackName, Vec<u8>>;

/// Packs are numbered from one counter: 0 has chunks, 1 the map, 2 the list.
fn packs(sealer: &Sealer) -> (Packs, RootRef, RootRef) {
    let mut volume = VOLUME.concat();
    volume.resize(4 * CHUNK, 0);
    let mut encoder = FrameEncoder::new(1).unwrap();
    let mut bytes = Vec::new();
    let mut pack = PackBuilder::new(sealer, pack_name(0), 200_000, None, &mut bytes);
    let mut builder = MapBuilder::new(sealer.clone(), 4).unwrap();
    let mut pages = MemoryPages::new(sealer, 100);
    pages.packs.lock().unwrap().insert(pack_name(0), Vec::new());
    let mut live = 0;
    for chunk in [0, 3] {
        let plain = &volume[chunk * CHUNK..][..CHUNK];
        let (position, hash) = (chunk as u64, sealer.chunk_hash(plain));
        let info = FrameInfo {
            kind: FrameKind::Chunk,
            level: 0,
            position,
            hash,
        };
        let location = pack.append(&mut encoder, &mut bytes, info, plain).unwrap();
        live += u64::from(location.length);
        builder.push(&mut pages, position, location).unwrap();
    }
    pack.scanned(ScannedRange { first: 0, count: 4 });
    pack.finish(&mut encoder, &mut bytes).unwrap();
    let map = builder.finish(&mut pages).unwrap().unwrap();
    drop(pages.source());
    pages.packs.lock().unwrap().insert(pack_name(0), bytes);
    let entry = |number: u32, live_frames, live_bytes| {
        let bytes = &pages.packs.lock().unwrap()[&pack_name(number)];
        let (size_bytes, crc32c) = (bytes.len() as u64, crc32c(bytes));
        PackEntry {
            pack: pack_name(number).into(),
            size_bytes,
            crc32c,
            live_frames,
            live_bytes,
        }
    };
    let entries = [entry(0, 2, live), entry(1, 1, map.length.into())];
    let pack_list = build_pack_list(sealer, &mut pages, entries)
        .unwrap()
        .unwrap();
    drop(pages.source());
    let packs = pages.packs.lock().unwrap().clone();
    (packs, map, pack_list)
}

fn manifest(packs: &Packs, map: RootRef, pack_list: RootRef) -> Manifest {
    Manifest {
        snapshot_id: pack_name(0).snapshot,
        volume_id: pack_name(0).volume,
        volume_name: "example".to_owned(),
        size_bytes: 200_000,
        chunk_size_bytes: 65_536,
        base: None,
        reason: Reason::Full,
        why: String::new(),
        run: pack_name(0).run,
        cut_at: time(),
        started_at: time(),
        committed_at: time(),
        map: Some(map),
        pack_list: Some(pack_list),
        data_bytes: 2 * CHUNK as u64,
        stored_bytes: packs.values().map(|bytes| bytes.len() as u64).sum(),
        chunks: ChunkCounts {
            total: 4,
            mapped: 2,
            stored: 2,
        },
        metadata: [("fs".to_owned(), "none".to_owned())].into(),
        tool: "stockpot".to_owned(),
        requires: Vec::new(),
        lock: None,
    }
}

/// Reads the volume back from the objects alone, and the secret if it is sealed.
pub(super) async fn restore(objects: &Objects, sealed: bool) -> Vec<u8> {
    let marker = Marker::parse(&objects[MARKER_KEY]).unwrap();
    let key = sealed.then(|| {
        let object = &objects[SLOT_KEY];
        let slot = Slot::parse(SLOT_KEY, marker.id, object).unwrap();
        match slot
            .open(object, &KeySource::from_secret(SECRET).unwrap())
            .unwrap()
        {
            Opened::Key(key) => key,
            Opened::NotThisKey => panic!("the slot does not open"),
        }
    });
    let sealer = Sealer::new(marker.id, key);
    marker.check_mac(&sealer, &objects[MARKER_KEY]).unwrap();
    let object_key = "snapshots/vol-1/snap-1.json";
    let SnapshotRecord::Manifest(manifest, _) =
        SnapshotRecord::open(&sealer, object_key, &objects[object_key]).unwrap()
    else {
        panic!("there is no manifest")
    };
    let packs = objects
        .iter()
        .filter_map(|(key, bytes)| Some((PackName::parse(key).ok()?, bytes.clone())));
    let packs: BTreeMap<PackName, Vec<u8>> = packs.collect();
    let packs = Arc::new(Mutex::new(packs));
    let source = || MemorySource {
        sealer: sealer.clone(),
        packs: Arc::clone(&packs),
    };

    let mut list = PackListReader::new(sealer.clone(), source(), manifest.pack_list.as_ref());
    while let Some(entries) = list.next().await {
        for entry in entries.unwrap() {
            let bytes = &packs.lock().unwrap()[&*entry.pack];
            assert_eq!(
                (entry.size_bytes, entry.crc32c),
                (bytes.len() as u64, crc32c(bytes))
            );
        }
    }
    let mut volume = vec![0; 4 * CHUNK];
    let mut decoder = FrameDecoder::new().unwrap();
    let mut reader = MapReader::new(
        sealer.clone(),
        source(),
        manifest.map.as_ref(),
        manifest.chunks.total,
    )
    .unwrap();
    while let Some(leaf) = reader.next().await {
        for (chunk, location) in leaf.unwrap().chunks() {
            let packs = packs.lock().unwrap();
            let at = location.offset as usize;
            let frame = &packs[&*location.pack][at..at + location.length as usize];
            let out = &mut volume[usize::try_from(chunk).unwrap() * CHUNK..][..CHUNK];
            decoder
                .decode_into(&sealer.pack(&location.pack), frame, FrameKind::Chunk, out)
                .unwrap();
            assert_eq!(sealer.chunk_hash(out), location.hash);
        }
    }
    volume.truncate(usize::try_from(manifest.size_bytes).unwrap());
    volume
}
