//! Maps built and read again, whole and one by one, new and on a base.

use std::collections::{BTreeMap, BTreeSet};

use futures::executor::block_on;
use proptest::prelude::*;
use stockpot_test_fixtures::cases::at_least;

use super::*;
use crate::format::{
    FormatError,
    crypto::Hash,
    location::Location,
    manifest::RootRef,
    map_page::{MapPage, page_first},
    testing::{MemoryPages, pack_name, sealer},
};

type Chunks = BTreeMap<u64, Location>;

fn location(number: u32, seed: u64) -> Location {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&seed.to_le_bytes());
    let offset = 16 + u32::try_from(seed % 1000).unwrap();
    Location {
        pack: pack_name(number).into(),
        offset,
        length: 100,
        hash: Hash(hash),
    }
}

fn build(pages: &mut MemoryPages, chunk_count: u64, chunks: &Chunks) -> Option<RootRef> {
    let mut builder = MapBuilder::new(sealer(true), chunk_count).unwrap();
    for (chunk, location) in chunks {
        builder.push(pages, *chunk, location.clone()).unwrap();
    }
    assert_eq!(builder.mapped(), chunks.len() as u64);
    builder.finish(pages).unwrap()
}

fn read(
    pages: &mut MemoryPages,
    root: Option<&RootRef>,
    chunk_count: u64,
) -> Result<Chunks, FormatError> {
    let mut reader = MapReader::new(sealer(true), pages.source(), root, chunk_count)?;
    let mut chunks = Chunks::new();
    while let Some(leaf) = block_on(reader.next()) {
        let leaf = leaf.map_err(|broken| broken.error)?;
        chunks.extend(
            leaf.chunks()
                .map(|(chunk, location)| (chunk, location.clone())),
        );
    }
    Ok(chunks)
}

fn maps() -> impl Strategy<Value = (u64, Chunks)> {
    let counts = prop_oneof![1..200_u64, 4000..5000_u64, Just(300_000_u64), Just(1 << 30)];
    counts.prop_flat_map(|count| {
        let near = 0..count.min(400);
        let chunk = prop_oneof![near, 0..count];
        let chunks = prop::collection::btree_map(chunk, (0..70_u32, any::<u64>()), 0..300);
        let chunks = chunks.prop_map(|chunks| {
            chunks
                .into_iter()
                .map(|(chunk, (number, seed))| (chunk, location(number, seed)))
                .collect()
        });
        (Just(count), chunks)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(at_least(48)))]

    #[test]
    fn what_is_pushed_is_read((count, chunks) in maps(), probes in prop::collection::vec(any::<u64>(), 5)) {
        let mut pages = MemoryPages::new(&sealer(true), 7);
        let root = build(&mut pages, count, &chunks);
        prop_assert_eq!(root.is_none(), chunks.is_empty());
        prop_assert_eq!(&read(&mut pages, root.as_ref(), count).unwrap(), &chunks);
        let mut lookup = MapLookup::new(sealer(true), pages.source(), root, count).unwrap();
        for chunk in probes.iter().map(|probe| probe % count).chain(chunks.keys().copied()) {
            let found = block_on(lookup.find(chunk)).unwrap();
            prop_assert_eq!(found.as_ref(), chunks.get(&chunk));
        }
    }

    #[test]
    fn a_map_on_a_base_is_the_same_and_writes_only_what_changed(
        (count, base) in maps(),
        changed in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..4),
    ) {
        let mut pages = MemoryPages::new(&sealer(true), 7);
        let root = build(&mut pages, count, &base);
        let mut next = base.clone();
        for (index, seed) in changed {
            next.insert(index.index(usize::try_from(count).unwrap()) as u64, location(99, seed));
        }
        let before = pages.written;
        // Compared: every leaf of the base is walked and offered.
        let mut builder = MapBuilder::new(sealer(true), count).unwrap();
        let mut reader = MapReader::new(sealer(true), pages.source(), root.as_ref(), count).unwrap();
        let mut todo = next.clone();
        while let Some(leaf) = block_on(reader.next()) {
            let leaf = leaf.unwrap();
            let rest = todo.split_off(&leaf.page.first_chunk);
            for (chunk, location) in todo {
                builder.push(&mut pages, chunk, location).unwrap();
            }
            todo = rest;
            for VisitedPage { level, first_chunk, location } in leaf.visited {
                builder.offer(level, first_chunk, location);
            }
        }
        for (chunk, location) in todo {
            builder.push(&mut pages, chunk, location).unwrap();
        }
        let rebuilt = builder.finish(&mut pages).unwrap();
        prop_assert_eq!(read(&mut pages, rebuilt.as_ref(), count).unwrap(), next.clone());
        let differing: BTreeSet<u64> = next.iter().filter(|(chunk, at)| base.get(*chunk) != Some(*at)).map(|(chunk, _)| page_first(0, *chunk)).collect();
        prop_assert!(pages.written - before <= differing.len() * 5);
        if differing.is_empty() {
            prop_assert_eq!(rebuilt, root);
        }
    }

    #[test]
    fn any_changed_byte_of_a_map_pack_is_an_error_or_of_no_matter((count, chunks) in maps(), at: prop::sample::Index, bit in 0..8_u8) {
        let mut pages = MemoryPages::new(&sealer(true), 1000);
        let root = build(&mut pages, count, &chunks);
        drop(pages.source());
        let mut packs = pages.packs.lock().unwrap();
        if let Some(bytes) = packs.values_mut().next() {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        drop(packs);
        if let Ok(found) = read(&mut pages, root.as_ref(), count) {
            prop_assert_eq!(found, chunks);
        }
    }

    #[test]
    fn pages_come_back_and_are_refused_elsewhere((count, chunks) in maps(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut page = MapPage::new(0, 0);
        page.entries = chunks.iter().filter(|(chunk, _)| **chunk < 64).map(|(chunk, at)| (u8::try_from(*chunk).unwrap(), at.clone())).collect();
        if !page.entries.is_empty() {
            let plain = page.encode();
            prop_assert_eq!(&MapPage::decode(&plain, 0, 0, count).unwrap(), &page);
            prop_assert!(MapPage::decode(&plain, 1, 0, count).is_err());
            prop_assert!(MapPage::decode(&plain, 0, 64, count).is_err());
            prop_assert!(MapPage::decode(&plain[..plain.len() - 1], 0, 0, count).is_err());
            prop_assert!(MapPage::decode(&[&plain[..], &[0]].concat(), 0, 0, count).is_err());
            let last = u64::from(page.entries.last().unwrap().0);
            prop_assert!(MapPage::decode(&plain, 0, 0, last).is_err());
        }
        prop_assert!(MapPage::decode(&bytes, 0, 0, count).is_err());
    }
}

#[test]
fn a_subtree_is_taken_over_whole() {
    let mut pages = MemoryPages::new(&sealer(true), 7);
    let chunks: Chunks = [1, 70, 5000, 9000]
        .map(|chunk| (chunk, location(1, chunk)))
        .into();
    let root = build(&mut pages, 300_000, &chunks);
    let mut reader = MapReader::new(sealer(true), pages.source(), root.as_ref(), 300_000).unwrap();
    let mut upper = Vec::new();
    while let Some(leaf) = block_on(reader.next()) {
        upper.extend(
            leaf.unwrap()
                .visited
                .into_iter()
                .filter(|page| page.level == 1),
        );
    }
    assert_eq!(upper.len(), 3);
    let mut builder = MapBuilder::new(sealer(true), 300_000).unwrap();
    builder.push(&mut pages, 3, location(2, 3)).unwrap();
    for page in &upper[1..] {
        builder
            .push_subtree(
                &mut pages,
                page.level,
                page.first_chunk,
                page.location.clone(),
            )
            .unwrap();
    }
    assert!(builder.push(&mut pages, 9000, location(2, 3)).is_err());
    builder.push(&mut pages, 200_000, location(2, 4)).unwrap();
    let root = builder.finish(&mut pages).unwrap();
    let found = read(&mut pages, root.as_ref(), 300_000).unwrap();
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        [3, 5000, 9000, 200_000]
    );
}

#[test]
fn growing_keeps_the_old_root_below_the_new_one() {
    let mut pages = MemoryPages::new(&sealer(true), 7);
    let chunks: Chunks = [1, 60].map(|chunk| (chunk, location(1, chunk))).into();
    let root = build(&mut pages, 64, &chunks).unwrap();
    let before = pages.written;
    let mut builder = MapBuilder::new(sealer(true), 65).unwrap();
    builder
        .push_subtree(&mut pages, 0, 0, root.location())
        .unwrap();
    builder.push(&mut pages, 64, location(3, 64)).unwrap();
    let grown = builder.finish(&mut pages).unwrap();
    assert_eq!(pages.written - before, 2);
    assert_eq!(read(&mut pages, grown.as_ref(), 65).unwrap().len(), 3);
    // The whole map of a volume that did not change is its root.
    let mut builder = MapBuilder::new(sealer(true), 65).unwrap();
    builder
        .push_subtree(&mut pages, 1, 0, grown.as_ref().unwrap().location())
        .unwrap();
    assert_eq!(builder.finish(&mut pages).unwrap(), grown);
}

#[test]
fn after_a_broken_page_the_rest_is_still_read() {
    let mut pages = MemoryPages::new(&sealer(true), 1);
    let chunks: Chunks = [1, 70, 5000]
        .map(|chunk| (chunk, location(1, chunk)))
        .into();
    let root = build(&mut pages, 300_000, &chunks);
    drop(pages.source());
    pages.packs.lock().unwrap().remove(&pack_name(1)).unwrap();
    let mut reader = MapReader::new(sealer(true), pages.source(), root.as_ref(), 300_000).unwrap();
    let mut found = Vec::new();
    while let Some(leaf) = block_on(reader.next()) {
        found.push(match leaf {
            Ok(leaf) => leaf.page.first_chunk..leaf.page.first_chunk + 64,
            Err(broken) => {
                assert_eq!((broken.level, &*broken.location.pack), (0, &pack_name(1)));
                broken.chunks
            }
        });
    }
    assert_eq!(found, [0..64, 64..128, 4992..5056]);
    let mut reader = MapReader::range(
        sealer(true),
        pages.source(),
        root.as_ref(),
        300_000,
        100..4999,
    )
    .unwrap();
    assert!(block_on(reader.next()).unwrap().is_err());
    assert_eq!(
        block_on(reader.next()).unwrap().unwrap().page.first_chunk,
        4992
    );
    assert!(block_on(reader.next()).is_none());
}

/// A chunk's frame is no longer than the repository's chunks allow, whatever the largest chunks are.
#[test]
fn a_leaf_with_too_long_a_chunk_is_broken() {
    for (length, found) in [((64 << 10) + 32, true), ((64 << 10) + 33, false)] {
        let mut pages = MemoryPages::new(&sealer(true), 5);
        let chunk = Location {
            length,
            ..location(7, 1)
        };
        let root = build(&mut pages, 1, &[(0, chunk)].into());
        let reader = MapReader::new(sealer(true), pages.source(), root.as_ref(), 1).unwrap();
        let mut reader = reader.with_chunk_size(64 << 10);
        match block_on(reader.next()).unwrap() {
            Ok(_) => assert!(found, "{length}"),
            Err(broken) => {
                assert!(!found, "{length}");
                assert!(matches!(broken.error, FormatError::Limit { .. }));
            }
        }
    }
}
