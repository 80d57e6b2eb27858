//! What is handed out to be read.

use proptest::prelude::*;

use super::*;

const CHUNK: u64 = 64 << 10;

fn all(ranges: Vec<Range<u64>>, size_bytes: u64) -> Vec<Segment> {
    let extents = Extents::given(ranges, size_bytes).unwrap();
    let mut plan = Plan::new(extents, size_bytes, u32::try_from(CHUNK).unwrap());
    std::iter::from_fn(|| plan.next().unwrap()).collect()
}

#[test]
fn odd_ranges_become_whole_chunks() {
    let segments = all(
        vec![1..2, CHUNK..CHUNK + 1, 3 * CHUNK..3 * CHUNK + 7],
        4 * CHUNK - 5,
    );
    assert_eq!(
        segments,
        [Segment {
            number: 0,
            chunks: 0..4,
            runs: vec![0..2, 3..4],
            kept: Vec::new(),
        }]
    );
}

#[test]
fn holes_cost_nothing() {
    let far = 64 << 40;
    let segments = all(vec![0..1, far - 1..far], far);
    assert_eq!(segments.len(), 2);
    let last = far / CHUNK - 1;
    assert_eq!(segments[1].runs, vec![last..last + 1]);
    assert!(all(Vec::new(), far).is_empty());
    let plan = |ranges| Plan::new(Extents::given(ranges, far).unwrap(), far, 64 << 10);
    assert_eq!(plan(vec![0..1, far - 1..far]).read_chunks().unwrap(), 2);
    assert_eq!(plan(Vec::new()).read_chunks().unwrap(), 0);
}

#[test]
fn senseless_ranges_are_refused() {
    for ranges in [
        &[5..5, 6..7][..],
        &[0..1, 1..11],
        &[3..5, 4..6],
        &[3..5, 0..1],
    ] {
        assert!(Extents::given(ranges.to_vec(), 10).is_err());
    }
}

#[test]
fn what_was_read_is_skipped() {
    let mut segment = Segment {
        number: 0,
        chunks: 0..64,
        runs: vec![0..10, 20..30, 40..50],
        kept: Vec::new(),
    };
    segment.skip([0..5, 8..22, 25..26, 40..64].iter());
    assert_eq!(segment.runs, [5..8, 22..25, 26..30]);
}

#[test]
fn kept_chunks_are_read_after_all() {
    let mut segment = Segment {
        number: 0,
        chunks: 0..128,
        runs: vec![10..20, 64..65],
        kept: vec![0..10, 20..64, 65..128],
    };
    let taken = segment.take_back([0, 9, 12, 20, 21, 100, 127].into_iter());
    assert_eq!(taken, [0, 9, 20, 21, 100, 127]);
    assert_eq!(segment.runs, [0..1, 9..22, 64..65, 100..101, 127..128]);
    assert_eq!(segment.kept, [1..9, 22..64, 65..100, 101..127]);
}

#[test]
fn only_leaves_with_changes_are_handed_out() {
    let size = 2000 * CHUNK;
    let chunk_size = u32::try_from(CHUNK).unwrap();
    let ranges = [
        3 * CHUNK..4 * CHUNK,
        70 * CHUNK..70 * CHUNK + 1,
        1999 * CHUNK..size,
    ];
    let mut changed = Changed::new(&ranges, size, size, chunk_size).unwrap();
    changed.open(640);
    let extents = Extents::given(vec![0..4 * CHUNK, 71 * CHUNK..size], size).unwrap();
    let mut plan = Plan::new(extents, size, chunk_size).only(Some(changed));
    let segments: Vec<_> = std::iter::from_fn(|| plan.next().unwrap()).collect();
    let expected = [
        // No data at 70 any more: a hole now.
        (0..128, vec![(3, 4)], vec![(0, 3), (4, 70), (71, 128)]),
        (640..704, vec![], vec![(640, 704)]),
        (1984..2000, vec![(1999, 2000)], vec![(1984, 1999)]),
    ];
    let pairs =
        |ranges: Vec<Range<u64>>| ranges.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>();
    let found: Vec<_> = segments
        .into_iter()
        .map(|segment| (segment.chunks, pairs(segment.runs), pairs(segment.kept)))
        .collect();
    assert_eq!(found, expected);
}

proptest! {
    #[test]
    fn every_changed_chunk_is_read_once_and_all_beside_it_is_kept(
        ranges in proptest::collection::vec((0..3000_u64, 1..700_u64), 0..12),
        size in 1..3000_u64,
    ) {
        let chunk_size = u32::try_from(CHUNK).unwrap();
        let bytes: Vec<_> = ranges.iter().map(|(at, len)| at * CHUNK + 1..(at + len) * CHUNK).collect();
        let changed = Changed::new(&bytes, size * CHUNK, size * CHUNK, chunk_size).unwrap();
        let everything = std::iter::once(0..size * CHUNK).collect();
        let extents = Extents::given(everything, size * CHUNK).unwrap();
        let mut plan = Plan::new(extents, size * CHUNK, chunk_size).only(Some(changed.clone()));
        let mut end = 0;
        let mut read = 0;
        while let Some(segment) = plan.next().unwrap() {
            prop_assert!(segment.chunks.start >= end && segment.chunks.start % 64 == 0);
            prop_assert!(segment.chunks.end - segment.chunks.start <= 512);
            end = segment.chunks.end;
            prop_assert!(end % 64 == 0 || end == size);
            for chunk in segment.chunks {
                let in_runs = segment.runs.iter().filter(|run| run.contains(&chunk)).count();
                let in_kept = segment.kept.iter().filter(|run| run.contains(&chunk)).count();
                prop_assert_eq!((in_runs, in_kept), if changed.contains(chunk) { (1, 0) } else { (0, 1) });
                read += in_runs as u64;
            }
        }
        prop_assert_eq!(read, changed.count());
    }

    #[test]
    fn every_byte_of_a_range_is_in_one_run(
        pieces in proptest::collection::vec((0..40_u64 << 20, 1..9_u64 << 20), 0..12),
        odd in 1..CHUNK,
    ) {
        let mut at = 0;
        let mut ranges = Vec::new();
        for (gap, len) in pieces {
            ranges.push(at + gap..at + gap + len);
            at += gap + len;
        }
        let size = at + odd;
        let segments = all(ranges.clone(), size);
        let mut end = 0;
        let mut covered = Vec::new();
        for (i, segment) in segments.iter().enumerate() {
            prop_assert_eq!(segment.number, i as u64);
            prop_assert!(segment.chunks.start >= end && segment.chunks.start % 64 == 0);
            end = segment.chunks.end;
            prop_assert!(!segment.runs.is_empty());
            for run in &segment.runs {
                prop_assert!(run.start >= segment.chunks.start && run.end <= segment.chunks.end);
                covered.push(run.clone());
            }
        }
        let wanted = |chunk: u64| ranges.iter().any(|r| r.start < (chunk + 1) * CHUNK && r.end > chunk * CHUNK);
        for chunk in 0..size.div_ceil(CHUNK) {
            let times = covered.iter().filter(|run| run.contains(&chunk)).count();
            prop_assert_eq!(times, usize::from(wanted(chunk)), "chunk {}", chunk);
        }
    }
}
