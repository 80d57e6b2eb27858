//! Answers as the tools print them, made from what is in them.

use proptest::prelude::*;

use super::*;

/// Printed by `thin_delta` 0.9.0: a discarded block, kept ones, rewritten ones, new ones.
const DELTA: &str = r#"<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="0">
  <diff left="2" right="3">
    <left_only begin="0" length="1"/>
    <same begin="1" length="3"/>
    <different begin="4" length="3"/>
    <same begin="7" length="3"/>
    <right_only begin="20" length="3"/>
  </diff>
</superblock>
"#;

/// Printed by `thin_dump` 0.9.0, but for its last line.
const DUMP: &str = r#"<superblock uuid="" time="2" transaction="3" flags="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="3" mapped_blocks="13" transaction="2" creation_time="2" snap_time="2">
    <range_mapping origin_begin="1" data_begin="1" length="3" time="0"/>
    <range_mapping origin_begin="4" data_begin="10" length="3" time="1"/>
    <range_mapping origin_begin="20" data_begin="13" length="3" time="1"/>
    <single_mapping origin_block="30" data_block="7" time="1"/>
  </device>
</superblock>
"#;

const BLOCK: u64 = 65536;
const BIG: u64 = 1 << 40;

fn parse(text: &str, wanted: Wanted, size_bytes: u64) -> Result<Vec<(u64, u64)>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ranges = runtime.block_on(read(text.as_bytes(), wanted, size_bytes))?;
    Ok(ranges
        .iter()
        .map(|range| (range.offset_bytes, range.end_bytes()))
        .collect())
}

fn changed(left_bytes: u64) -> Wanted {
    Wanted::Changed {
        left: 2,
        right: 3,
        left_bytes,
    }
}

#[test]
fn recorded_answers_are_understood() {
    let delta = parse(DELTA, changed(BIG), BIG).unwrap();
    assert_eq!(
        delta,
        [(0, BLOCK), (4 * BLOCK, 7 * BLOCK), (20 * BLOCK, 23 * BLOCK)]
    );
    let mapped = parse(DUMP, Wanted::Mapped { device: 3 }, BIG).unwrap();
    assert_eq!(
        mapped,
        [
            (BLOCK, 7 * BLOCK),
            (20 * BLOCK, 23 * BLOCK),
            (30 * BLOCK, 31 * BLOCK)
        ]
    );
    // The device ends in the middle of a block.
    let mapped = parse(DUMP, Wanted::Mapped { device: 3 }, 6 * BLOCK + 512).unwrap();
    assert_eq!(mapped, [(BLOCK, 6 * BLOCK + 512)]);
}

#[test]
fn nothing_changed_is_an_answer() {
    let empty = DELTA
        .lines()
        .filter(|line| !line.contains("begin"))
        .collect::<String>();
    assert_eq!(parse(&empty, changed(BIG), BIG), Ok(vec![]));
    let hollow = r#"<superblock data_block_size="128"><diff left="2" right="3"/></superblock>"#;
    assert_eq!(parse(hollow, changed(BIG), BIG), Ok(vec![]));
}

#[test]
fn blocks_that_were_behind_the_end_of_the_base_count_as_changed() {
    // The base ends in block 8; blocks 8 and 9 are shared, and were no part of it.
    let grown = parse(DELTA, changed(8 * BLOCK + 4096), BIG).unwrap();
    assert_eq!(
        grown,
        [
            (0, BLOCK),
            (4 * BLOCK, 7 * BLOCK),
            (8 * BLOCK + 4096, 10 * BLOCK),
            (20 * BLOCK, 23 * BLOCK)
        ]
    );
    let shrunk = parse(DELTA, changed(BIG), 5 * BLOCK).unwrap();
    assert_eq!(shrunk, [(0, BLOCK), (4 * BLOCK, 5 * BLOCK)]);
}

#[test]
fn what_is_not_whole_is_an_error() {
    for end in 0..DELTA.trim_end().len() {
        assert!(
            parse(&DELTA[..end], changed(BIG), BIG).is_err(),
            "{}",
            &DELTA[..end]
        );
    }
    for (from, to) in [
        ("diff left=\"2\"", "diff left=\"4\""),
        ("right=\"3\"", ""),
        ("128", "0"),
        ("128", "64k"),
        ("128", "99999999999999999999"),
        ("begin=\"4\"", "begin=\"2\""),
        ("begin=\"20\"", "begin=\"18446744073709551615\""),
        ("begin=\"20\"", "begin=\"300000000000000\""),
        ("different", "changed"),
        ("length=\"1\"", "length=\"-1\""),
        ("<same begin=\"1\" length=\"3\"/>", "<ref name=\"7\"/>"),
        ("</diff>", "</device>"),
        ("</diff>", "words</diff>"),
    ] {
        let bad = DELTA.replacen(from, to, 1);
        assert_ne!(bad, DELTA);
        assert!(parse(&bad, changed(BIG), BIG).is_err(), "{bad}");
    }
    let other = Wanted::Mapped { device: 4 };
    assert!(parse(DUMP, other, BIG).is_err());
    assert!(parse(DELTA, other, BIG).is_err());
    let without = r#"<superblock data_block_size="128"></superblock>"#;
    assert!(parse(without, changed(BIG), BIG).is_err());
    assert!(parse("", changed(BIG), BIG).is_err());
}

/// What a block of a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Unmapped,
    Same,
    Different,
    LeftOnly,
    RightOnly,
}

fn blocks() -> impl Strategy<Value = Vec<Is>> {
    let kind = prop_oneof![
        Just(Is::Unmapped),
        Just(Is::Same),
        Just(Is::Different),
        Just(Is::LeftOnly),
        Just(Is::RightOnly),
    ];
    let run = (kind, 1_usize..5).prop_map(|(kind, length)| vec![kind; length]);
    proptest::collection::vec(run, 0..12).prop_map(|runs| runs.concat())
}

fn print(blocks: &[Is], sectors: u64) -> String {
    let mut body = String::new();
    let mut at = 0;
    for run in blocks.chunk_by(|a, b| a == b) {
        let name = match run[0] {
            Is::Unmapped => "",
            Is::Same => "same",
            Is::Different => "different",
            Is::LeftOnly => "left_only",
            Is::RightOnly => "right_only",
        };
        if !name.is_empty() {
            body.push_str(&format!(
                "<{name} begin=\"{at}\" length=\"{}\"/>\n",
                run.len()
            ));
        }
        at += run.len();
    }
    format!(
        "<superblock data_block_size=\"{sectors}\">\n<diff left=\"2\" right=\"3\">\n{body}</diff>\n</superblock>\n"
    )
}

proptest! {
    #[test]
    fn each_sector_is_in_the_answer_exactly_if_it_may_differ(
        blocks in blocks(),
        block_sectors in 1_u64..6,
        left_sectors in 0_u64..200,
        right_sectors in 0_u64..200,
    ) {
        let text = print(&blocks, block_sectors);
        let found = parse(&text, changed(left_sectors * 512), right_sectors * 512).unwrap();
        prop_assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].0), "not ascending and merged");
        for sector in 0..250 {
            let block = usize::try_from(sector / block_sectors).unwrap();
            let differs = match blocks.get(block).unwrap_or(&Is::Unmapped) {
                Is::Unmapped => false,
                Is::Same => sector >= left_sectors,
                Is::Different | Is::LeftOnly | Is::RightOnly => true,
            };
            let expected = differs && sector < right_sectors;
            let at = sector * 512;
            let is = found.iter().any(|range| range.0 <= at && at < range.1);
            prop_assert_eq!(is, expected, "sector {}", sector);
        }
    }
}
