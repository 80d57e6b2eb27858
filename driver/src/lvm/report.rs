//! LVM's JSON report (`lvmreport(7)`), parsed into what the driver asks about.

mod json;
mod metadata;
mod share;

pub(super) use self::{
    json::{COLUMNS, parse},
    metadata::{MetadataArea, what_to_do_about_metadata},
    share::Share,
};
use super::names::{Marks, Tags};
use crate::{DriverError, in_use};

/// One look at a volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) extent_bytes: u64,
    pub(super) size_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) metadata: MetadataArea,
    pub(super) lvs: Vec<Lv>,
}

/// One visible logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lv {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    /// The thin pool it lies in.
    pub(super) pool: Option<String>,
    /// What it is, if it is ours.
    pub(super) tags: Option<Tags>,
    /// What else is noted on it.
    pub(super) marks: Marks,
    pub(super) active: bool,
    pub(super) open: bool,
    pub(super) suspended: bool,
    pub(super) read_only: bool,
    /// Its extents lie in stripes.
    pub(super) is_striped: bool,
    /// Major and minor number while it is active.
    pub(super) device: Option<(u32, u32)>,
    /// Its number in its thin pool.
    pub(super) thin_id: Option<u32>,
    /// What it was cut from, or reads through to; one that was removed is not named.
    pub(super) origin: Option<String>,
    /// For a classic snapshot: what it is of. Its own size is that of its room for changes.
    pub(super) cow: Option<Cow>,
    /// For a thin pool: whether new blocks are zeroed, and how full it is (unknown while it is not active).
    pub(super) thin_pool: Option<ThinPool>,
}

impl Lv {
    /// Who has its device open, in words; `None` if nobody has.
    pub(super) fn opened_by(&self) -> Option<String> {
        let holders = || self.device.map_or_else(|| "open".into(), in_use::holders);
        self.open.then(holders)
    }
}

/// What a report says of a classic snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cow {
    pub(super) origin: String,
    /// The size of what was cut.
    pub(super) content_bytes: u64,
    /// Whether its room for changes ran out; unknown while it is not active.
    pub(super) is_void: Option<bool>,
}

/// What a report says of a thin pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThinPool {
    pub(super) zeroes: bool,
    pub(super) metadata_bytes: u64,
    pub(super) data_used: Option<Share>,
    pub(super) metadata_used: Option<Share>,
}

impl Report {
    /// What `lvremove --yes` takes along with a logical volume: its classic snapshots, and thin volumes elsewhere that read through
    /// to it. Thin snapshots in its own pool stand on their own.
    pub(super) fn taken_along<'a>(&'a self, lv: &'a Lv) -> impl Iterator<Item = &'a Lv> {
        let is_of_it = move |other: &&Lv| {
            other.origin.as_deref() == Some(lv.name.as_str())
                && (other.cow.is_some() || other.pool.is_none() || other.pool != lv.pool)
        };
        self.lvs.iter().filter(is_of_it)
    }

    /// Refuses to remove a logical volume with which others would go; `what` is its name for the caller.
    pub(super) fn refuse_taking_along(&self, lv: &Lv, what: &str) -> Result<(), DriverError> {
        let others: Vec<_> = self.taken_along(lv).map(in_words).collect();
        if others.is_empty() {
            return Ok(());
        }
        Err(DriverError::InUse {
            what: what.to_owned(),
            by: format!("{}: delete those first", others.join(", ")),
        })
    }
}

/// A snapshot of ours by its id, everything else as LVM names it.
fn in_words(lv: &Lv) -> String {
    match &lv.tags {
        Some(Tags::Snapshot { id, .. }) => format!("snapshot {id}"),
        _ => format!("logical volume {}", lv.name),
    }
}

#[cfg(test)]
mod tests;
