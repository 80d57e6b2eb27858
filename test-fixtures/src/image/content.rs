//! The bytes behind a [`Fill`], computed from seed and offset alone.

use super::Fill;

/// Text is made in blocks of this size.
const BLOCK_BYTES: u64 = 4096;

const WORDS: [&str; 16] = [
    "volume ",
    "snapshot ",
    "bucket ",
    "the ",
    "of ",
    "a ",
    "chunk ",
    "is ",
    "thin ",
    "pool ",
    "extent ",
    "and ",
    "pot ",
    "stock ",
    "map\n",
    "page ",
];

/// Fills `buffer` with what `fill` has at `offset`.
pub(super) fn fill(fill: Fill, offset: u64, buffer: &mut [u8]) {
    match fill {
        Fill::Zero => buffer.fill(0),
        Fill::Byte(byte) => buffer.fill(byte),
        Fill::Random(seed) => by_block(offset, buffer, 8, |number, block| {
            block.extend_from_slice(&mix(seed, number).to_le_bytes());
        }),
        Fill::Text(seed) => by_block(offset, buffer, BLOCK_BYTES, |number, block| {
            text(seed, number, block)
        }),
    }
}

/// Fills `buffer` from blocks of `size` bytes that `make` appends to an empty vector, given their number.
fn by_block(offset: u64, buffer: &mut [u8], size: u64, mut make: impl FnMut(u64, &mut Vec<u8>)) {
    let mut block = Vec::new();
    let mut position = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        block.clear();
        make(position / size, &mut block);
        let start = usize::try_from(position % size).expect("smaller than a block");
        let piece = rest.len().min(block.len() - start);
        let (now, later) = rest.split_at_mut(piece);
        now.copy_from_slice(&block[start..start + piece]);
        rest = later;
        position += piece as u64;
    }
}

fn text(seed: u64, number: u64, block: &mut Vec<u8>) {
    let size = usize::try_from(BLOCK_BYTES).expect("a small constant");
    let mut step = 0u64;
    while block.len() < size {
        let bits = mix(seed ^ number.rotate_left(32), step);
        for nibble in bits.to_le_bytes() {
            block.extend_from_slice(WORDS[usize::from(nibble & 15)].as_bytes());
        }
        step += 1;
    }
    block.truncate(size);
}

/// The `step`th number of the `SplitMix64` sequence of `seed` (Steele, Lea, Flood 2014).
fn mix(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        assert_eq!(
            [mix(0, 0), mix(0, 1)],
            [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]
        );
    }

    #[test]
    fn text_is_text() {
        let mut buffer = vec![0; 10_000];
        fill(Fill::Text(7), 123, &mut buffer);
        assert!(buffer.iter().all(u8::is_ascii));
    }
}
