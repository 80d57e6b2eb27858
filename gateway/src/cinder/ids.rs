//! Ids: the manager's end in a ULID, which is 128 bits like a UUID, and clients of Cinder look by id only for a UUID.
//!
//! So each thing is shown under the UUID that its ULID is, and found by it, or by the manager's own id.

use ulid::Ulid;

/// Characters of a ULID.
const ULID_LEN: usize = 26;

/// An id of the manager as Cinder shows it. One without a ULID stays as it is.
pub(super) fn shown(id: &str) -> String {
    match ulid_in(id) {
        Some(ulid) => uuid(ulid),
        None => id.to_owned(),
    }
}

/// The end of the manager's id, for an id that is a UUID.
pub(super) fn end_of(id: &str) -> Option<String> {
    let digits: String = id.split('-').collect();
    let is_hex = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    if !is_hex || !matches!(lengths[..], [32] | [8, 4, 4, 4, 12]) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some(Ulid(number).to_string().to_ascii_lowercase())
}

/// Whether an id of the manager ends like this.
pub(super) fn ends(id: &str, end: &str) -> bool {
    id.strip_suffix(end).is_some_and(|rest| rest.ends_with('-'))
}

/// 128 bits in the form of a UUID.
pub(super) fn uuid(ulid: Ulid) -> String {
    let id = format!("{:032x}", ulid.0);
    let (a, b, c, d, e) = (&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}

fn ulid_in(id: &str) -> Option<Ulid> {
    let (_, end) = id.rsplit_once('-')?;
    if end.len() != ULID_LEN {
        return None;
    }
    let ulid = Ulid::from_string(&end.to_ascii_uppercase()).ok()?;
    // Some letters stand for others: what is shown has to lead back to this very id.
    (ulid.to_string().to_ascii_lowercase() == end).then_some(ulid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_and_its_uuid_lead_to_each_other() {
        for _ in 0..100 {
            let end = Ulid::generate().to_string().to_ascii_lowercase();
            let id = format!("vol-0123abcd-{end}");
            let uuid = shown(&id);
            let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
            assert_eq!(end_of(&uuid), Some(end.clone()));
            assert_eq!(
                end_of(&uuid.replace('-', "").to_uppercase()),
                Some(end.clone())
            );
            assert!(ends(&id, &end) && !ends(&end, &end));
        }
    }

    #[test]
    fn others_stay_as_they_are() {
        for id in [
            "vol-x",
            "",
            "vol-0123abcd-zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "vol-0123abcd-01JD0000000000000000000000",
            "vol-0123abcd-ol0000000000000000000000il",
        ] {
            assert_eq!(shown(id), id);
        }
        for other in [
            "",
            "vol-0123abcd-01jd0000000000000000000000",
            "0123abcd-12-34",
            "-",
        ] {
            assert_eq!(end_of(other), None, "{other}");
        }
    }
}
