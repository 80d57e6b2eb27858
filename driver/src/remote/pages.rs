//! Lists and ranges as streams, on both sides, so that no message is larger than a connection takes.

use std::pin::Pin;

use prost::Message;
use stockpot_proto::stockpot::v1::storage as api;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use super::wire;
use crate::ByteRange;

/// Ranges in one message.
const RANGES_PER_PAGE: usize = 4096;

/// Longest list that is taken.
const LIST_BYTES_MAX: usize = 64 << 20;
/// Most entries of a list.
const ENTRIES_MAX: usize = 1 << 20;
/// Most ranges that are taken: a changed block of 64 KiB in every second place of 2 TiB.
const RANGES_MAX: u64 = 1 << 24;

pub(super) type Pages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A list as a stream of its entries.
pub(super) fn entries<T: Send + 'static>(all: Vec<T>) -> Pages<T> {
    Box::pin(tokio_stream::iter(all.into_iter().map(Ok)))
}

/// Ranges, counted first.
pub(super) fn pages(ranges: Option<Vec<ByteRange>>) -> Pages<api::RangesPage> {
    let can_tell = ranges.is_some();
    let ranges = ranges.unwrap_or_default();
    let first = api::RangesPage {
        can_tell,
        count: ranges.len() as u64,
        ranges: Vec::new(),
    };
    let rest: Vec<_> = ranges
        .chunks(RANGES_PER_PAGE)
        .map(|page| api::RangesPage {
            ranges: page.iter().map(wire::range).collect(),
            ..api::RangesPage::default()
        })
        .collect();
    entries(std::iter::once(first).chain(rest).collect())
}

/// All entries of a list, or what is wrong with them.
pub(super) type Entries<T> = Result<Vec<T>, wire::Odd>;

/// Reads the entries of a list, each as it comes: what cannot be meant ends the list, before more of it is kept.
pub(super) async fn all_entries<S, T, U>(
    mut answer: S,
    read: impl Fn(T) -> Result<U, wire::Odd>,
) -> Result<Entries<U>, Status>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    T: Message,
{
    let (mut all, mut bytes) = (Vec::new(), 0);
    while let Some(entry) = answer.next().await {
        let entry = entry?;
        bytes += entry.encoded_len();
        if all.len() >= ENTRIES_MAX || bytes > LIST_BYTES_MAX {
            return Ok(Err(format!(
                "a list of more than {ENTRIES_MAX} entries or {LIST_BYTES_MAX} bytes"
            )));
        }
        match read(entry) {
            Ok(entry) => all.push(entry),
            Err(odd) => return Ok(Err(odd)),
        }
    }
    Ok(Ok(all))
}

/// All ranges, or what is wrong with them; `None` where the storage cannot tell.
pub(super) type Ranges = Result<Option<Vec<ByteRange>>, wire::Odd>;

pub(super) async fn all_ranges(mut answer: Streaming<api::RangesPage>) -> Result<Ranges, Status> {
    let Some(first) = answer.message().await? else {
        return Ok(Err("nothing".to_owned()));
    };
    if !first.can_tell {
        return Ok(Ok(None));
    }
    if first.count > RANGES_MAX {
        return Ok(Err(format!("{} ranges", first.count)));
    }
    let mut all = Vec::new();
    while let Some(page) = answer.message().await? {
        if let Err(odd) = wire::append_ranges(&mut all, page.ranges) {
            return Ok(Err(odd));
        }
        if all.len() as u64 > first.count {
            break;
        }
    }
    // A list that ends too early would leave out what changed.
    if all.len() as u64 == first.count {
        Ok(Ok(Some(all)))
    } else {
        Ok(Err(format!("{} of {} ranges", all.len(), first.count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(ranges: Option<Vec<ByteRange>>) -> Vec<api::RangesPage> {
        pages(ranges).map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn a_list_is_read_as_it_comes_and_has_an_end() {
        let object = |id: &str| api::ObjectRequest {
            pool: String::new(),
            id: id.to_owned(),
        };
        let read = |object: api::ObjectRequest| match object.id.as_str() {
            "odd" => Err("odd".to_owned()),
            _ => Ok(object.id.len()),
        };
        let good = entries(vec![object("a"), object("bc")]);
        assert_eq!(all_entries(good, read).await.unwrap(), Ok(vec![1, 2]));
        // Nothing is read after what is odd.
        let after = std::iter::from_fn(|| -> Option<Result<_, Status>> { panic!("read on") });
        let odd = tokio_stream::iter([Ok(object("odd"))].into_iter().chain(after));
        assert!(all_entries(odd, read).await.unwrap().is_err());
        let large = "x".repeat(1 << 20);
        let endless = tokio_stream::iter(std::iter::repeat_with(|| Ok(object(&large))));
        let error = all_entries(endless, |_| Ok(())).await.unwrap().unwrap_err();
        assert!(error.contains("67108864 bytes"), "{error}");
    }

    #[tokio::test]
    async fn ranges_go_out_in_pages_that_are_counted() {
        let ranges: Vec<_> = (0..2 * RANGES_PER_PAGE as u64 + 1)
            .map(|n| ByteRange {
                offset_bytes: n * 8192,
                length_bytes: 4096,
            })
            .collect();
        let pages = sent(Some(ranges.clone())).await;
        assert_eq!((pages.len(), pages[0].can_tell), (4, true));
        assert_eq!(pages[0].count, ranges.len() as u64);
        let mut read = Vec::new();
        for page in pages {
            wire::append_ranges(&mut read, page.ranges).unwrap();
        }
        assert_eq!(read, ranges);
        let nothing = sent(Some(Vec::new())).await;
        assert_eq!((nothing.len(), nothing[0].can_tell), (1, true));
        let unknown = sent(None).await;
        assert_eq!((unknown.len(), unknown[0].can_tell), (1, false));
    }
}
