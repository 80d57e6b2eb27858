//! Frames: in and out, damaged, out of place.

use super::*;
use crate::format::testing::{pack_name, sealer};
use proptest::prelude::*;

fn frame_of(sealed: bool, number: u32, plain: &[u8]) -> Vec<u8> {
    let cipher = sealer(sealed).pack(&pack_name(0));
    let mut out = b"before".to_vec();
    let mut encoder = FrameEncoder::new(1).unwrap();
    let length = encoder
        .encode(&cipher, &mut out, FrameKind::MapPage, number, plain)
        .unwrap();
    assert_eq!(out.len(), 6 + length as usize);
    out.split_off(6)
}

fn read(sealed: bool, frame: &[u8]) -> Result<Vec<u8>, FormatError> {
    let cipher = sealer(sealed).pack(&pack_name(0));
    FrameDecoder::new()
        .unwrap()
        .decode(&cipher, frame, FrameKind::MapPage)
}

fn plains() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..300),
        (any::<u8>(), 1..5000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(sealed: bool, number: u32, plain in plains()) {
        let frame = frame_of(sealed, number, &plain);
        prop_assert!(frame.len() <= plain.len() + 32);
        prop_assert_eq!(read(sealed, &frame).unwrap(), plain);
    }

    #[test]
    fn any_flipped_or_missing_byte_is_found(sealed: bool, plain in plains(), at: prop::sample::Index, bit in 0..8_u8) {
        let mut frame = frame_of(sealed, 3, &plain);
        let at = at.index(frame.len());
        prop_assert!(read(sealed, &frame[..at]).is_err());
        frame[at] ^= 1 << bit;
        prop_assert!(read(sealed, &frame).is_err(), "byte {at}");
    }

    #[test]
    fn no_bytes_make_it_panic(sealed: bool, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(sealed, &bytes).is_err());
    }
}

#[test]
fn a_frame_belongs_to_its_pack_repository_and_kind() {
    for sealed in [false, true] {
        let frame = frame_of(sealed, 0, b"a page");
        let mut decoder = FrameDecoder::new().unwrap();
        let other = sealer(sealed).pack(&pack_name(1));
        assert!(decoder.decode(&other, &frame, FrameKind::MapPage).is_err());
        let cipher = sealer(sealed).pack(&pack_name(0));
        assert!(
            decoder
                .decode(&cipher, &frame, FrameKind::ListPage)
                .is_err()
        );
        assert!(
            decoder
                .decode_into(&cipher, &frame, FrameKind::MapPage, &mut [0; 5])
                .is_err()
        );
        assert!(read(!sealed, &frame).is_err());
    }
}

#[test]
fn a_plain_length_over_the_limit_is_refused_before_memory_is_taken() {
    let header = FrameHeader {
        kind: FrameKind::Chunk,
        compression: Compression::Zstd,
        number: 0,
        plain_len: u32::MAX,
        stored_len: 32,
    };
    assert!(matches!(
        FrameHeader::decode(&header.encode()),
        Err(FormatError::Limit { .. })
    ));
}

#[test]
fn a_chunk_that_compresses_is_zstd_and_noise_is_not() {
    let zeroes = frame_of(true, 0, &[7; 4096]);
    assert_eq!(
        FrameHeader::decode(&zeroes[..16]).unwrap().compression,
        Compression::Zstd
    );
    let noise: [u8; 4096] = crate::format::hashes::random().unwrap();
    let header = FrameHeader::decode(&frame_of(true, 0, &noise)[..16]).unwrap();
    assert_eq!(
        (header.compression, header.stored_len),
        (Compression::None, 4096 + 16)
    );
}
