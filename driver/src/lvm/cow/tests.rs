use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ByteRange;

/// What the kernel would write for these changed units, in this order.
struct Synthetic {
    sectors: u32,
    old: Vec<u64>,
}

impl Synthetic {
    fn chunk_bytes(&self) -> u64 {
        u64::from(self.sectors) * SECTOR
    }

    /// The device, with room for `spare` more units than are needed.
    fn image(&self, spare: u64) -> Vec<u8> {
        let (chunk, per_area) = (self.chunk_bytes(), self.chunk_bytes() / EXCEPTION_BYTES);
        let count = self.old.len() as u64;
        let areas = count.div_ceil(per_area);
        // A table that fills its last area ends with an empty one, where the device has room for that.
        let mut image = vec![0; usize::try_from((1 + areas + count + spare) * chunk).unwrap()];
        image[..16].copy_from_slice(&header(1, self.sectors));
        for (n, old) in (0u64..).zip(&self.old) {
            let (area, index) = (n / per_area, n % per_area);
            let start = 1 + area * (per_area + 1);
            let at = usize::try_from(start * chunk + index * EXCEPTION_BYTES).unwrap();
            image[at..at + 8].copy_from_slice(&old.to_le_bytes());
            image[at + 8..at + 16].copy_from_slice(&(start + 1 + index).to_le_bytes());
        }
        image
    }
}

fn header(valid: u32, sectors: u32) -> [u8; 16] {
    let fields = [MAGIC, valid, VERSION, sectors].map(u32::to_le_bytes);
    fields.concat().try_into().unwrap()
}

/// The runs that a table names, in its order.
fn parse_image(image: &[u8]) -> Result<Vec<(u64, u64)>, TableError> {
    let mut runs = Vec::new();
    let read = |offset, length| {
        let (offset, length) = (
            usize::try_from(offset).unwrap(),
            usize::try_from(length).unwrap(),
        );
        let run = image.get(offset..offset + length);
        Ok(run.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    };
    parse(image.len() as u64, read, |offset, length| {
        runs.push((offset, length));
    })?;
    Ok(runs)
}

fn ranges(runs: &[(u64, u64)], end_bytes: u64) -> Vec<ByteRange> {
    let mut changed = Changed::in_units(end_bytes, 512);
    for (offset, length) in runs {
        changed.mark(*offset, *length);
    }
    let mut ranges = Ranges::within(end_bytes);
    changed.into_ranges(&mut ranges);
    ranges.finish()
}

fn covers(ranges: &[ByteRange], byte: u64) -> bool {
    ranges
        .iter()
        .any(|r| (r.offset_bytes..r.offset_bytes + r.length_bytes).contains(&byte))
}

#[test]
fn none_one_many_and_full_areas() {
    // A unit of 512 bytes has 32 exceptions to an area.
    for count in [0, 1, 2, 31, 32, 33, 63, 64, 65, 200] {
        for spare in [0, 1, 7] {
            let old: Vec<u64> = (0..count).map(|n| n * 3).collect();
            let synthetic = Synthetic { sectors: 1, old };
            let runs = parse_image(&synthetic.image(spare)).unwrap();
            let named: Vec<u64> = runs.iter().map(|(offset, _)| offset / 512).collect();
            assert_eq!(named, synthetic.old, "{count} exceptions, {spare} to spare");
        }
    }
}

#[test]
fn neighbours_are_one_range_and_the_end_is_cut() {
    let old = vec![9, 3, 2, 4, 100];
    let runs = parse_image(&Synthetic { sectors: 8, old }.image(1)).unwrap();
    let range = |offset: u64, length| ByteRange {
        offset_bytes: offset * 4096,
        length_bytes: length,
    };
    let expected = [range(2, 3 * 4096), range(9, 512)];
    assert_eq!(ranges(&runs, 9 * 4096 + 512), expected);
    assert_eq!(ranges(&runs, 0), []);
}

/// Of a volume however large, the map takes 2 MiB at most, and what is marked stays covered.
#[test]
fn the_memory_for_it_is_bounded() {
    for end in [1, 64 << 10, 256 << 30, 300 << 30, 64 << 40, u64::MAX] {
        let mut changed = Changed::within(end);
        assert!(changed.map.len() * 8 <= 2 << 20, "{end}");
        for offset in [0, end / 2, end - 1] {
            changed.mark(offset, 1);
        }
        changed.mark(end, 1 << 20);
        let mut found = Ranges::within(end);
        changed.into_ranges(&mut found);
        let found = found.finish();
        for byte in [0, end / 2, end - 1] {
            assert!(covers(&found, byte), "{byte} of {end}: {found:?}");
        }
        assert!(found.last().unwrap().end_bytes() == end);
    }
}

/// Recorded from Linux 7.2 with LVM 2.03.16: units of 4 KiB, 256 of them written at 3 MiB.
#[test]
fn what_the_kernel_wrote_is_understood() {
    let mut image = vec![0; 600 << 12];
    image[..16].copy_from_slice(b"SnAp\x01\0\0\0\x01\0\0\0\x08\0\0\0");
    for n in 0..256u16 {
        let at = 4096 + usize::from(n) * 16;
        image[at..at + 2].copy_from_slice(&(0x300 + n).to_le_bytes());
        image[at + 8..at + 10].copy_from_slice(&(n + 2).to_le_bytes());
    }
    let found = ranges(&parse_image(&image).unwrap(), 64 << 20);
    let expected = ByteRange {
        offset_bytes: 3 << 20,
        length_bytes: 1 << 20,
    };
    assert_eq!(found, [expected]);
}

#[test]
fn what_the_kernel_does_not_write_is_refused() {
    let whole = Synthetic {
        sectors: 8,
        old: vec![1, 2, 3],
    }
    .image(4);
    let with = |at: usize, bytes: &[u8]| {
        let mut image = whole.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        parse_image(&image)
    };
    assert!(matches!(with(4, &[0]), Err(TableError::Void)));
    for bad in [
        with(0, b"PanS"),
        with(4, &[2]),
        with(8, &[2]),
        with(12, &[7]),
        with(12, &[0]),
        with(12, &[0, 0, 0, 0x80]),
        // Copied to an area of exceptions, and beyond the end.
        with(4096 + 8, &[1]),
        with(4096 + 8, &[0xff]),
        parse_image(&whole[..100]),
        parse_image(&[]),
    ] {
        assert!(matches!(bad, Err(TableError::Malformed(_))), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn every_changed_unit_is_covered_and_nothing_else(
        power in 0..4u32,
        old in prop::collection::vec(0..5_000u64, 0..400),
        end in 0..5_000u64 * 512,
    ) {
        let sectors = 1 << power;
        let unique: BTreeSet<u64> = old.iter().copied().collect();
        let synthetic = Synthetic { sectors, old };
        let chunk = synthetic.chunk_bytes();
        let ranges = ranges(&parse_image(&synthetic.image(2)).unwrap(), end);
        let mut previous_end = None;
        for range in &ranges {
            prop_assert!(range.length_bytes > 0);
            prop_assert!(previous_end.is_none_or(|end| end < range.offset_bytes));
            previous_end = Some(range.offset_bytes + range.length_bytes);
        }
        prop_assert!(previous_end.is_none_or(|last| last <= end));
        let total: u64 = ranges.iter().map(|range| range.length_bytes).sum();
        let expected: u64 = unique
            .iter()
            .map(|unit| chunk.min(end.saturating_sub(unit * chunk)))
            .sum();
        prop_assert_eq!(total, expected);
        for unit in unique {
            if unit * chunk < end {
                prop_assert!(covers(&ranges, unit * chunk));
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..4096), sectors in 0..9u32) {
        let mut image = header(1, sectors).to_vec();
        image.extend(bytes);
        let _ = parse_image(&image);
    }
}
