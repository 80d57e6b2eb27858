//! Slots: the right key, wrong keys, damage, and what a hostile bucket may not ask for.

use super::*;
use crate::format::testing::key;

const CHEAP: KdfCost = KdfCost {
    m_kib: 8,
    t: 1,
    p: 1,
};
const REPOSITORY: RepositoryId = RepositoryId([0x11; 16]);
const KEY: &str = "keys/main.json";

fn seal(source: &KeySource) -> Vec<u8> {
    Slot::seal(
        &ObjectId::new("main").unwrap(),
        REPOSITORY,
        source,
        &key(),
        CHEAP,
    )
    .unwrap()
}

fn open(object: &[u8], source: &KeySource) -> Result<Opened, FormatError> {
    Slot::parse(KEY, REPOSITORY, object)?.open(object, source)
}

fn sources() -> [KeySource; 2] {
    let secret = KeySource::from_secret(&[b's'; 40]).unwrap();
    [
        secret,
        KeySource::from_passphrase("correct horse ü\n".as_bytes()).unwrap(),
    ]
}

#[test]
fn the_key_comes_back_to_the_right_source_only() {
    for (at, source) in sources().iter().enumerate() {
        let object = seal(source);
        let Opened::Key(found) = open(&object, source).unwrap() else {
            panic!("not opened")
        };
        assert_eq!(found.expose(), key().expose());
        let others = [
            sources()[1 - at].clone(),
            KeySource::from_secret(&[b't'; 40]).unwrap(),
            KeySource::from_passphrase(b"wrong").unwrap(),
        ];
        for other in others {
            assert!(matches!(open(&object, &other).unwrap(), Opened::NotThisKey));
        }
    }
}

#[test]
fn no_flipped_byte_gives_a_key() {
    for source in sources() {
        let object = seal(&source);
        for at in 0..object.len() {
            let mut bytes = object.clone();
            bytes[at] ^= 1;
            assert!(
                !matches!(open(&bytes, &source), Ok(Opened::Key(_))),
                "byte {at}"
            );
        }
    }
}

#[test]
fn a_slot_cannot_move_or_ask_for_too_much() {
    let object = seal(&sources()[1]);
    assert!(Slot::parse("keys/other.json", REPOSITORY, &object).is_err());
    assert!(Slot::parse(KEY, RepositoryId([0x12; 16]), &object).is_err());
    let text = String::from_utf8(object).unwrap();
    for cost in [
        "{\"m_kib\":4000000,\"t\":1,\"p\":1}",
        "{\"m_kib\":8,\"t\":17,\"p\":1}",
        "{\"m_kib\":8,\"t\":1,\"p\":2}",
        "{\"m_kib\":8,\"t\":0,\"p\":1}",
        "{\"m_kib\":1000000,\"t\":16,\"p\":1}",
        "null",
    ] {
        let object = text.replacen("{\"m_kib\":8,\"t\":1,\"p\":1}", cost, 1);
        assert!(
            Slot::parse(KEY, REPOSITORY, object.as_bytes()).is_err(),
            "{cost}"
        );
    }
}
