//! Pages of a list that is ordered by id. A token names the last id told, so it stays good when things come and go.

use crate::ManagerError;

/// What a token starts with.
const MARK: &str = "after:";
/// Most entries of a page, so that it stays below what one gRPC message takes.
const ENTRIES_MAX: usize = 500;

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    /// Its entries.
    pub(crate) entries: Vec<T>,
    /// Token of the next one; empty on the last.
    pub(crate) next_token: String,
}

/// The id after which a page starts; `None` for the first page.
///
/// # Errors
/// `Busy`, which is ABORTED: what the CSI specification wants for a token that cannot be used; start again.
pub(crate) fn parse(token: &str) -> Result<Option<&str>, ManagerError> {
    if token.is_empty() {
        return Ok(None);
    }
    let id = token.strip_prefix(MARK).filter(|id| {
        let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !id.is_empty() && id.len() <= 63 && id.bytes().all(sound)
    });
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(ManagerError::Busy(
            "the starting token is none of this list: begin again without one".to_owned(),
        )),
    }
}

/// The page of `sorted` after an id, with at most `max_entries` (0: as many as fit).
pub(crate) fn cut<T>(
    sorted: Vec<T>,
    after: Option<&str>,
    max_entries: u32,
    id_of: impl Fn(&T) -> &str,
) -> Page<T> {
    let wanted = match usize::try_from(max_entries) {
        Ok(0) | Err(_) => ENTRIES_MAX,
        Ok(wanted) => wanted.min(ENTRIES_MAX),
    };
    let mut entries: Vec<T> = sorted
        .into_iter()
        .filter(|entry| after.is_none_or(|after| id_of(entry) > after))
        .collect();
    let more = entries.len() > wanted;
    entries.truncate(wanted);
    let next_token = match entries.last() {
        Some(last) if more => format!("{MARK}{}", id_of(last)),
        _ => String::new(),
    };
    Page {
        entries,
        next_token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_whole_list() {
        let all: Vec<String> = (0..10).map(|n| format!("snap-{n}")).collect();
        for size in 1..12 {
            let mut told = Vec::new();
            let mut token = String::new();
            loop {
                let after = parse(&token).unwrap();
                let page = cut(all.clone(), after, size, |id| id);
                assert!(page.entries.len() <= size as usize);
                told.extend(page.entries);
                token = page.next_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(told, all);
        }
        assert_eq!(cut(all.clone(), None, 0, |id| id).entries, all);
    }

    #[test]
    fn other_tokens_are_refused() {
        for bad in ["x", "after:", "after:A/b", "invalid-token"] {
            assert!(matches!(parse(bad), Err(ManagerError::Busy(_))), "{bad}");
        }
    }
}
