//! The pack list as a whole: built from entries in order, read as a stream of leaves.

use std::{collections::BTreeSet, collections::VecDeque, sync::Arc};

use super::{
    FormatError,
    crypto::Sealer,
    frame::FrameKind,
    ids::PackName,
    limits::{FAN_OUT, LEVELS_MAX},
    list_page::{ListChild, ListPage, PackEntry},
    location::Location,
    manifest::RootRef,
    map::{PageInfo, PageSink, PageSource, Place},
};

/// Builds a pack list of entries ascending by name, and returns its root; `None` without entries.
///
/// # Errors
/// [`FormatError::Malformed`] when the entries are not in order; the sink's errors.
pub fn build_pack_list<S: PageSink>(
    sealer: &Sealer,
    sink: &mut S,
    entries: impl IntoIterator<Item = PackEntry>,
) -> Result<Option<RootRef>, S::Error> {
    let mut levels: Vec<Vec<ListChild>> = Vec::new();
    let mut leaf: Vec<PackEntry> = Vec::new();
    let mut last: Option<Arc<PackName>> = None;
    for entry in entries {
        if last.as_ref().is_some_and(|last| *last >= entry.pack) {
            return Err(FormatError::malformed("pack list", "its entries are not in order").into());
        }
        last = Some(Arc::clone(&entry.pack));
        leaf.push(entry);
        if leaf.len() as u64 == FAN_OUT {
            let page = ListPage::Leaf(std::mem::take(&mut leaf));
            let child = write_page(sealer, sink, &page)?;
            add(sealer, sink, &mut levels, 0, child)?;
        }
    }
    if !leaf.is_empty() {
        let child = write_page(sealer, sink, &ListPage::Leaf(leaf))?;
        add(sealer, sink, &mut levels, 0, child)?;
    }
    finish(sealer, sink, levels)
}

/// Adds a written page of `level` to the page above it, which is written when it is full.
fn add<S: PageSink>(
    sealer: &Sealer,
    sink: &mut S,
    levels: &mut Vec<Vec<ListChild>>,
    level: u8,
    child: ListChild,
) -> Result<(), S::Error> {
    let index = usize::from(level);
    if index >= usize::from(LEVELS_MAX) {
        return Err(FormatError::malformed("pack list", "it has too many packs").into());
    }
    if levels.len() <= index {
        levels.push(Vec::new());
    }
    // Full pages are written when one more comes, so that a page never stands alone below a root.
    if levels[index].len() as u64 == FAN_OUT {
        let children = std::mem::take(&mut levels[index]);
        let page = ListPage::Upper {
            level: level + 1,
            children,
        };
        let upper = write_page(sealer, sink, &page)?;
        add(sealer, sink, levels, level + 1, upper)?;
    }
    levels[index].push(child);
    Ok(())
}

/// Writes the pages that are still open. The root is the first page that stands alone.
fn finish<S: PageSink>(
    sealer: &Sealer,
    sink: &mut S,
    mut levels: Vec<Vec<ListChild>>,
) -> Result<Option<RootRef>, S::Error> {
    let mut level: u8 = 0;
    loop {
        let index = usize::from(level);
        if index >= levels.len() {
            return Ok(None);
        }
        let mut children = std::mem::take(&mut levels[index]);
        if index + 1 == levels.len() && children.len() == 1 {
            let root = children
                .pop()
                .map(|child| RootRef::new(level, &child.location));
            return Ok(root);
        }
        let page = ListPage::Upper {
            level: level + 1,
            children,
        };
        let upper = write_page(sealer, sink, &page)?;
        add(sealer, sink, &mut levels, level + 1, upper)?;
        level += 1;
    }
}

fn write_page<S: PageSink>(
    sealer: &Sealer,
    sink: &mut S,
    page: &ListPage,
) -> Result<ListChild, S::Error> {
    let level = match page {
        ListPage::Leaf(_) => 0,
        ListPage::Upper { level, .. } => *level,
    };
    let plain = page.encode();
    let hash = sealer.page_hash(&plain);
    let info = PageInfo {
        kind: FrameKind::ListPage,
        level,
        first_chunk: 0,
        hash,
    };
    let Place {
        pack,
        offset,
        length,
    } = sink.write(info, &plain)?;
    let first = Arc::clone(page.first().expect("a page that is written has entries"));
    Ok(ListChild {
        first,
        location: Location {
            pack,
            offset,
            length,
            hash,
        },
    })
}

/// A page of a pack list that could not be had.
#[derive(Debug)]
pub struct BrokenListPage<E> {
    /// Its level.
    pub level: u8,
    /// Where it lies.
    pub location: Location,
    /// What went wrong.
    pub error: E,
}

/// Streams the leaves of a pack list. After a broken page it goes on behind it.
#[derive(Debug)]
pub struct PackListReader<S: PageSource> {
    sealer: Sealer,
    source: S,
    pending: Vec<VecDeque<Pending<S::Error>>>,
    root: Option<(u8, Location)>,
    last: Option<Arc<PackName>>,
    page_packs: BTreeSet<Arc<PackName>>,
    pages: Vec<Location>,
}

#[derive(Debug)]
struct Pending<E> {
    level: u8,
    location: Location,
    page: Result<ListPage, E>,
}

impl<S: PageSource> PackListReader<S> {
    /// Reads a whole pack list.
    #[must_use]
    pub fn new(sealer: Sealer, source: S, root: Option<&RootRef>) -> Self {
        let root = root.map(|root| (root.level, root.location()));
        Self {
            sealer,
            source,
            pending: Vec::new(),
            root,
            last: None,
            page_packs: BTreeSet::new(),
            pages: Vec::new(),
        }
    }

    /// Where the pages lie that were met so far: all of them at the end.
    #[must_use]
    pub fn pages(&self) -> &[Location] {
        &self.pages
    }

    /// The packs that hold pages of the list itself, of those pages met so far: all of them at the end.
    #[must_use]
    pub fn page_packs(&self) -> &BTreeSet<Arc<PackName>> {
        &self.page_packs
    }

    /// The next entries in order, or the next page that is broken; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Vec<PackEntry>, BrokenListPage<S::Error>>> {
        if let Some((level, location)) = self.root.take() {
            let pages = self.fetch(level, vec![(None, location)]).await;
            self.pending.push(pages);
        }
        loop {
            let pages = self.pending.last_mut()?;
            let Some(Pending {
                level,
                location,
                page,
            }) = pages.pop_front()
            else {
                self.pending.pop();
                continue;
            };
            match page {
                Err(error) => {
                    return Some(Err(BrokenListPage {
                        level,
                        location,
                        error,
                    }));
                }
                Ok(ListPage::Leaf(entries)) => {
                    let first = entries.first().map(|entry| &entry.pack);
                    if self.last.as_ref() >= first && self.last.is_some() {
                        let error =
                            FormatError::malformed("pack list", "its entries are not in order")
                                .into();
                        return Some(Err(BrokenListPage {
                            level,
                            location,
                            error,
                        }));
                    }
                    self.last = entries.last().map(|entry| Arc::clone(&entry.pack));
                    return Some(Ok(entries));
                }
                Ok(ListPage::Upper { level, children }) => {
                    let wanted = children
                        .into_iter()
                        .map(|child| (Some(child.first), child.location))
                        .collect();
                    let pages = self.fetch(level - 1, wanted).await;
                    self.pending.push(pages);
                }
            }
        }
    }

    async fn fetch(
        &mut self,
        level: u8,
        wanted: Vec<(Option<Arc<PackName>>, Location)>,
    ) -> VecDeque<Pending<S::Error>> {
        let (firsts, locations): (Vec<_>, Vec<Location>) = wanted.into_iter().unzip();
        self.page_packs
            .extend(locations.iter().map(|location| Arc::clone(&location.pack)));
        self.pages.extend(locations.iter().cloned());
        let mut answers = self
            .source
            .pages(FrameKind::ListPage, &locations)
            .await
            .into_iter();
        let page = |(first, location): (Option<Arc<PackName>>, Location)| {
            let page = self.open(answers.next(), &location, level, first.as_deref());
            Pending {
                level,
                location,
                page,
            }
        };
        firsts.into_iter().zip(locations).map(page).collect()
    }

    fn open(
        &self,
        answer: Option<Result<Vec<u8>, S::Error>>,
        location: &Location,
        level: u8,
        first: Option<&PackName>,
    ) -> Result<ListPage, S::Error> {
        let malformed = |problem: &str| FormatError::malformed("pack list page", problem);
        let plain = answer.unwrap_or_else(|| Err(malformed("it was not fetched").into()))?;
        if self.sealer.page_hash(&plain) != location.hash {
            return Err(FormatError::Damaged {
                what: "pack list page",
                check: "hash",
            }
            .into());
        }
        let page = ListPage::decode(&plain, level)?;
        if first.is_some_and(|first| page.first().is_none_or(|found| **found != *first)) {
            return Err(malformed("it starts with another pack than the page above says").into());
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{MemoryPages, pack_name, sealer};
    use futures::executor::block_on;
    use proptest::prelude::*;
    use stockpot_test_fixtures::cases::at_least;

    fn entries(count: u32) -> Vec<PackEntry> {
        let entry = |number| PackEntry {
            pack: Arc::new(pack_name(number)),
            size_bytes: 1000 + u64::from(number),
            crc32c: number,
            live_frames: 3,
            live_bytes: 100,
        };
        (0..count).map(entry).collect()
    }

    fn read(
        pages: &mut MemoryPages,
        root: Option<&RootRef>,
    ) -> Result<Vec<PackEntry>, FormatError> {
        let mut reader = PackListReader::new(sealer(true), pages.source(), root);
        let mut found = Vec::new();
        while let Some(leaf) = block_on(reader.next()) {
            found.extend(leaf.map_err(|broken| broken.error)?);
        }
        let held: BTreeSet<_> = pages
            .packs
            .lock()
            .unwrap()
            .keys()
            .cloned()
            .map(Arc::new)
            .collect();
        assert_eq!(*reader.page_packs(), held);
        Ok(found)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(at_least(24)))]

        #[test]
        fn lists_come_back(count in prop_oneof![0..200_u32, 4090..4100_u32, Just(9000)]) {
            let mut pages = MemoryPages::new(&sealer(true), 5);
            let root = build_pack_list(&sealer(true), &mut pages, entries(count)).unwrap();
            prop_assert_eq!(read(&mut pages, root.as_ref()).unwrap(), entries(count));
        }

        #[test]
        fn no_bytes_make_a_page_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), level in 0..4_u8) {
            prop_assert!(ListPage::decode(&bytes, level).is_err());
        }
    }

    #[test]
    fn levels_are_as_few_as_can_be_and_order_is_kept() {
        for (count, level) in [(1, 0), (64, 0), (65, 1), (4096, 1), (4097, 2)] {
            let mut pages = MemoryPages::new(&sealer(true), 50);
            let root = build_pack_list(&sealer(true), &mut pages, entries(count)).unwrap();
            assert_eq!(root.unwrap().level, level, "{count}");
        }
        let mut pages = MemoryPages::new(&sealer(true), 50);
        let mut wrong = entries(3);
        wrong.swap(0, 1);
        assert!(build_pack_list(&sealer(true), &mut pages, wrong).is_err());
    }
}
