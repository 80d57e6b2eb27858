//! The vectors and the worked example of `docs/bucket-format.md`, so that text and code cannot part ways.
//!
//! When a test here fails after a change that was meant, its message has the new block for the document.

use std::{collections::BTreeMap, fmt::Write as _};

use futures::executor::block_on;
use jiff::Timestamp;

use super::{
    example::{Objects, VOLUME, example, restore},
    frame::{FrameEncoder, FrameKind},
    hashes::Purpose,
    ids::{Nonce, ObjectId, RepositoryId, SnapshotId, VolumeId},
    keys::KeySource,
    list_page::{ListChild, ListPage, PackEntry},
    location::Location,
    manifest::Tombstone,
    map_page::MapPage,
    pack::{Footer, encode_header},
    pack_index::{IndexEntry, PackIndex, ScannedRange},
    slot::{KdfCost, Opened, Slot},
    testing::{key, pack_name, sealer},
};
use crate::format::crypto::Hash;

const DOCUMENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/bucket-format.md"
));
const TOMBSTONE_KEY: &str = "snapshots/vol-1/snap-1.json";

/// The lines of the fenced block with this name.
fn block(name: &str) -> Vec<&'static str> {
    let fence = format!("```{name}");
    let lines = DOCUMENT.lines().skip_while(|line| *line != fence).skip(1);
    lines.take_while(|line| *line != "```").collect()
}

fn assert_block(name: &str, expected: &str) {
    let found = block(name).join("\n");
    assert!(
        found.trim() == expected.trim(),
        "the block `{name}` of docs/bucket-format.md differs; it should be:\n{expected}"
    );
}

#[test]
fn the_derivations_are_as_written() {
    let mut out = String::new();
    let mut line = |name: &str, value: String| writeln!(out, "{name} = {value}").unwrap();
    let derive =
        |purpose: Purpose, data: &[u8]| hex::encode(purpose.derive(&[key().expose(), data]));
    line("key id", key().id().to_string());
    line("marker mac key", derive(Purpose::MarkerMac, b""));
    line("chunk hash key", derive(Purpose::ChunkHash, b""));
    line("page hash key", derive(Purpose::PageHash, b""));
    line("manifest hash key", derive(Purpose::ManifestHash, b""));
    line(
        "pack key",
        derive(Purpose::PackKey, pack_name(0).object_key().as_bytes()),
    );
    let data = [TOMBSTONE_KEY.as_bytes(), &[0], &[0x33; 16]].concat();
    line("record key", derive(Purpose::RecordKey, &data));
    for (word, sealed) in [("sealed", true), ("unsealed", false)] {
        let sealer = sealer(sealed);
        line(
            &format!("chunk hash, {word}"),
            sealer.chunk_hash(&[0x5a; 65_536]).to_string(),
        );
        line(
            &format!("page hash, {word}"),
            sealer.page_hash(b"page").to_string(),
        );
        line(
            &format!("manifest hash, {word}"),
            sealer.manifest_hash(b"manifest").to_string(),
        );
        line(
            &format!("marker mac, {word}"),
            sealer.marker_mac(b"marker").to_string(),
        );
    }
    assert_block("derivations", &out);
}

#[test]
fn frames_and_records_are_as_written() {
    let mut out = String::new();
    for (word, sealed) in [("sealed", true), ("unsealed", false)] {
        let sealer = sealer(sealed);
        let mut frame = Vec::new();
        let cipher = sealer.pack(&pack_name(0));
        let mut encoder = FrameEncoder::new(1).unwrap();
        encoder
            .encode(&cipher, &mut frame, FrameKind::MapPage, 3, b"stockpot")
            .unwrap();
        writeln!(out, "frame, {word} = {}", hex::encode(frame)).unwrap();
    }
    for (word, sealed) in [("sealed", true), ("unsealed", false)] {
        let tombstone = Tombstone {
            snapshot_id: SnapshotId::new("snap-1").unwrap(),
            volume_id: VolumeId::new("vol-1").unwrap(),
            deleted_at: time(),
            reason: "deleted".to_owned(),
            pack_list: None,
            tool: "stockpot".to_owned(),
        };
        let written = sealer(sealed)
            .seal_record_with(TOMBSTONE_KEY, &tombstone, Nonce([0x33; 16]))
            .unwrap();
        let text = String::from_utf8(written.bytes).unwrap();
        writeln!(out, "tombstone, {word} = {}", text.trim_end()).unwrap();
    }
    for (word, source) in sources() {
        let object = slot(&source);
        writeln!(out, "key slot, {word} = {}", object.trim_end()).unwrap();
    }
    assert_block("frames-and-records", &out);
}

#[test]
fn key_slots_of_the_document_open() {
    for (word, source) in sources() {
        let name = format!("key slot, {word} = ");
        let line = block("frames-and-records")
            .into_iter()
            .find_map(|line| line.strip_prefix(&name));
        let object = format!("{}\n", line.unwrap());
        let parsed = Slot::parse(
            "keys/main.json",
            RepositoryId([0x11; 16]),
            object.as_bytes(),
        )
        .unwrap();
        let Opened::Key(found) = parsed.open(object.as_bytes(), &source).unwrap() else {
            panic!("{word} does not open")
        };
        assert_eq!(found.id(), key().id());
    }
}

#[test]
fn tables_are_as_written() {
    let location = |number, hash| Location {
        pack: pack_name(number).into(),
        offset: 16,
        length: 1000,
        hash: Hash([hash; 32]),
    };
    let mut map = MapPage::new(0, 64);
    map.entries = vec![
        (0, location(5, 0xaa)),
        (1, location(4, 0xbb)),
        (63, location(5, 0xcc)),
    ];
    let entry = PackEntry {
        pack: pack_name(4).into(),
        size_bytes: 5000,
        crc32c: 0x0102_0304,
        live_frames: 2,
        live_bytes: 2000,
    };
    let child = ListChild {
        first: pack_name(4).into(),
        location: location(9, 0xdd),
    };
    let index = PackIndex {
        pack: pack_name(4),
        volume_size_bytes: 200_000,
        base: None,
        scanned: vec![ScannedRange { first: 0, count: 4 }],
        entries: vec![IndexEntry {
            kind: FrameKind::Chunk,
            level: 0,
            length: 1000,
            position: 3,
            hash: Hash([0xaa; 32]),
        }],
    };
    let footer = Footer {
        index_offset: 1016,
        index_length: 200,
        frames: 1,
    };
    let mut out = String::new();
    for (name, bytes) in [
        ("header, sealed", encode_header(true).to_vec()),
        ("header, unsealed", encode_header(false).to_vec()),
        ("footer", footer.encode().to_vec()),
        ("index", index.encode()),
        ("map page", map.encode()),
        ("list page, leaf", ListPage::Leaf(vec![entry]).encode()),
        (
            "list page, upper",
            ListPage::Upper {
                level: 1,
                children: vec![child],
            }
            .encode(),
        ),
    ] {
        writeln!(out, "{name} = {}", hex::encode(bytes)).unwrap();
    }
    assert_block("tables", &out);
}

#[test]
fn the_worked_examples_restore() {
    for (name, sealed) in [("example-unsealed", false), ("example-sealed", true)] {
        let objects = parse_dump(&block(name));
        let restored = if objects.is_empty() {
            Vec::new()
        } else {
            block_on(restore(&objects, sealed))
        };
        // Compressed bytes may differ with another zstd; what the document shows has to stay readable.
        assert!(
            restored == VOLUME.concat(),
            "the block `{name}` of docs/bucket-format.md does not restore; it could be:\n{}",
            dump(&example(sealed))
        );
        let same_names = example(sealed);
        assert_eq!(
            objects.keys().collect::<Vec<_>>(),
            same_names.keys().collect::<Vec<_>>()
        );
    }
}

fn sources() -> [(&'static str, KeySource); 2] {
    [
        (
            "secret",
            KeySource::from_secret(b"0123456789abcdef0123456789abcdef\n").unwrap(),
        ),
        (
            "passphrase",
            KeySource::from_passphrase(b"correct horse battery staple\n").unwrap(),
        ),
    ]
}

fn time() -> Timestamp {
    "2026-11-21T08:00:00.000001Z".parse().unwrap()
}

fn slot(source: &KeySource) -> String {
    let id = ObjectId::new("main").unwrap();
    let cost = KdfCost {
        m_kib: 64,
        t: 2,
        p: 2,
    };
    let repository = RepositoryId([0x11; 16]);
    let object = Slot::seal_with(
        &id,
        repository,
        source,
        &key(),
        cost,
        time(),
        [0x44; 32],
        [0x55; 12],
    );
    String::from_utf8(object.unwrap()).unwrap()
}

/// Objects as text: a line `== key (n bytes)`, then 32 bytes a line; JSON stands as it is.
fn dump(objects: &Objects) -> String {
    let mut out = String::new();
    for (key, bytes) in objects {
        writeln!(out, "== {key} ({} bytes)", bytes.len()).unwrap();
        if key.ends_with(".json") {
            out.push_str(std::str::from_utf8(bytes).unwrap());
            continue;
        }
        for (at, line) in bytes.chunks(32).enumerate() {
            writeln!(out, "{:04x}: {}", at * 32, hex::encode(line)).unwrap();
        }
    }
    out
}

fn parse_dump(lines: &[&str]) -> Objects {
    let mut objects = BTreeMap::new();
    let mut key = String::new();
    for line in lines {
        if let Some(head) = line.strip_prefix("== ") {
            key = head.split_once(' ').unwrap().0.to_owned();
            objects.insert(key.clone(), Vec::new());
        } else if key.ends_with(".json") {
            objects.insert(key.clone(), format!("{line}\n").into_bytes());
        } else {
            let bytes = hex::decode(line.split_once(": ").unwrap().1).unwrap();
            objects.get_mut(&key).unwrap().extend(bytes);
        }
    }
    objects
}
