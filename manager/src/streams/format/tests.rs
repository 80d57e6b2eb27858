use super::*;

const SIZE: usize = 3 * DATA_SIZE_MAX + 700;

fn content() -> Vec<u8> {
    let mut content = vec![0; SIZE];
    content[10..5000].fill(7);
    content[2 * DATA_SIZE_MAX..].fill(9);
    content
}

fn encoded(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, content.len() as u64).unwrap();
    for piece in content.chunks(DATA_SIZE_MAX) {
        encoder.data(piece).unwrap();
    }
    let end = encoder.end().unwrap();
    bytes.extend(end);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
        return Err(FormatError::Damaged("short".to_owned()));
    };
    let mut content = vec![0; usize::try_from(read_header(header)?).unwrap()];
    read_content(header, rest, |piece| {
        if let Piece::Data(at, data) = piece {
            let at = usize::try_from(at).unwrap();
            content[at..at + data.len()].copy_from_slice(data);
        }
        Ok::<_, FormatError>(())
    })?;
    Ok(content)
}

#[test]
fn what_was_written_is_read() {
    let content = content();
    let bytes = encoded(&content);
    // The second MiB is zeroes.
    assert!(bytes.len() < SIZE - DATA_SIZE_MAX + 200, "{}", bytes.len());
    assert_eq!(decoded(&bytes).unwrap(), content);
    let zeroes = vec![0; SIZE];
    let bytes = encoded(&zeroes);
    assert_eq!(bytes.len(), HEADER_SIZE + 2 * FRAME_HEAD_SIZE + HASH_SIZE);
    assert_eq!(decoded(&bytes).unwrap(), zeroes);
}

/// The bytes that another program has to write: they never change.
#[test]
fn the_bytes_are_those_of_the_description() {
    let mut expected = b"STKPTSTR\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0".to_vec();
    expected.extend(b"\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0abc");
    let hash = blake3::hash(&expected);
    expected.extend(b"\x03\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0");
    expected.extend(hash.as_bytes());
    assert_eq!(encoded(b"abc"), expected);
}

#[test]
fn fewer_more_and_other_bytes_are_found() {
    let mut content = vec![0; 9000];
    content[..4000].fill(3);
    content[8000..].fill(4);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 9000).unwrap();
    for piece in content.chunks(1000) {
        encoder.data(piece).unwrap();
    }
    let end = encoder.end().unwrap();
    bytes.extend(end);
    assert_eq!(decoded(&bytes).unwrap(), content);
    for len in 0..bytes.len() {
        assert!(decoded(&bytes[..len]).is_err(), "{len} bytes");
    }
    let mut more = bytes.clone();
    more.push(0);
    assert!(matches!(decoded(&more), Err(FormatError::Damaged(_))));
    for at in 0..bytes.len() {
        // A size that is another one may be too large to make room for.
        if (16..HEADER_SIZE).contains(&at) {
            continue;
        }
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(decoded(&other).is_err(), "byte {at}");
    }
}

#[test]
fn a_size_that_is_not_that_of_the_content_is_found() {
    for (size, announced) in [(4096, 4095), (4096, 4097), (4096, 8192)] {
        let mut bytes = encoded(&vec![1; size]);
        let announced = u64::to_le_bytes(announced);
        bytes[16..HEADER_SIZE].copy_from_slice(&announced);
        let error = decoded(&bytes).unwrap_err();
        assert!(matches!(error, FormatError::Damaged(_)), "{error:?}");
    }
    assert!(matches!(
        decoded(b"a zfs stream or whatever else it is"),
        Err(FormatError::Foreign(_))
    ));
}
