//! Which snapshots a retention policy keeps, and which it gives up.
//!
//! [`plan`] only thinks: it is given what [`crate::snapshots::list`] found and says of each snapshot whether it stays
//! and by which rules. [`named`] finds the snapshots that a user names. Giving one up is
//! [`crate::snapshots::delete`]: a tombstone; the data goes with the next [`crate::prune`].
//!
//! # What a policy never touches
//! - The newest committed snapshot of a volume, whatever the numbers say.
//! - Whatever is not committed, or cannot be read: only a user's word ends that.
//! - What was cut at a time that is still to come. It takes no other's place either.

mod named;
mod periods;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

pub use named::{Target, named};
use periods::Period;

use crate::{
    Repository, RepositoryError,
    format::ids::{SnapshotId, VolumeId},
    snapshots::{SnapshotSummary, Status},
    store::StoreError,
};

/// How many of what to keep, for each volume by itself. Days, weeks (ISO), months and years are those of UTC, and only
/// those with a snapshot count; of each the newest snapshot stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub last: u32,
    /// Of the newest so many days.
    pub daily: u32,
    /// Of the newest so many weeks.
    pub weekly: u32,
    /// Of the newest so many months.
    pub monthly: u32,
    /// Of the newest so many years.
    pub yearly: u32,
    /// All whose content is younger than this.
    pub within: Option<SignedDuration>,
}

impl Retention {
    /// Whether it says nothing at all: carried out, it would leave one snapshot of each volume.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One of the newest.
    Last,
    /// Young enough.
    Within,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
    /// The newest of its volume: a policy never takes it.
    Newest,
    /// Cut at a time that is still to come: by a wrong clock.
    Ahead,
}

impl Rule {
    /// The word in output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Within => "within",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Newest => "newest",
            Self::Ahead => "ahead of time",
        }
    }
}

/// Clocks of hosts may differ from that of the store by this much.
pub const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(15);

/// Whether a moment that a host noted is still to come. What was cut then is neither the newest nor older than anything: a
/// clock was wrong.
#[must_use]
pub fn is_ahead(moment: Timestamp, now: Timestamp) -> bool {
    moment.duration_since(now) > CLOCK_SLACK
}

/// The time by the clock of the store, which every host shares; by this host's where the store does not tell.
///
/// # Errors
/// If the store does not answer.
pub async fn now(repository: &Repository) -> Result<Timestamp, StoreError> {
    match repository.store().now_s().await {
        Ok(seconds) => Ok(Timestamp::from_second(seconds).unwrap_or_else(|_| Timestamp::now())),
        Err(StoreError::Unsupported { .. }) => Ok(Timestamp::now()),
        Err(error) => Err(error),
    }
}

/// How far the store's clock and another one may be apart where days are counted by both.
const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(24);

/// Refuses to count days where clocks disagree: the store's, this machine's, and those of the machines that made the snapshots. One that was years ahead
/// made snapshots that outlive all others, and one that is behind makes each new one the oldest.
///
/// # Errors
/// [`RepositoryError::Clocks`], [`RepositoryError::AheadOfTime`].
pub fn check_clocks(
    repository: &Repository,
    items: &[Item],
    now: Timestamp,
    own: Timestamp,
) -> Result<(), RepositoryError> {
    if now.duration_since(own).abs() > CLOCKS_APART {
        return Err(RepositoryError::Clocks {
            location: repository.location(),
            server: now.to_string(),
            own: own.to_string(),
        });
    }
    let ahead = |item: &&Item| item.committed_at.duration_since(now) > CLOCKS_APART;
    match items.iter().find(ahead) {
        None => Ok(()),
        Some(item) => Err(RepositoryError::AheadOfTime {
            snapshot: item.snapshot_id.to_string(),
            committed_at: item.committed_at.to_string(),
            now: now.to_string(),
        }),
    }
}

/// A committed snapshot, as far as a policy looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The moment its content is of.
    pub cut_at: Timestamp,
    /// When it was committed: decides between two of the same moment.
    pub committed_at: Timestamp,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The snapshot.
    pub item: Item,
    /// The rules that keep it; none: it is given up.
    pub kept_by: Vec<Rule>,
}

impl Choice {
    /// Whether it stays.
    #[must_use]
    pub fn stays(&self) -> bool {
        !self.kept_by.is_empty()
    }
}

/// The snapshots that a policy may judge: those that are committed, and whose times are known.
#[must_use]
pub fn items(found: &[SnapshotSummary]) -> Vec<Item> {
    let committed = found.iter().filter(|s| s.status == Status::Committed);
    let item = |summary: &SnapshotSummary| {
        let manifest = summary.manifest.as_ref()?;
        Some(Item {
            snapshot_id: manifest.snapshot_id.clone(),
            volume_id: manifest.volume_id.clone(),
            cut_at: manifest.cut_at,
            committed_at: manifest.committed_at,
        })
    };
    committed.filter_map(item).collect()
}

/// Judges snapshots, each volume by itself, at a moment that [`now`] tells. The result has every item once: by volume, newest
/// first.
#[must_use]
pub fn plan(items: &[Item], retention: &Retention, now: Timestamp) -> Vec<Choice> {
    let mut volumes: BTreeMap<&VolumeId, Vec<&Item>> = BTreeMap::new();
    for item in items {
        volumes.entry(&item.volume_id).or_default().push(item);
    }
    let mut choices = Vec::with_capacity(items.len());
    for mut of_volume in volumes.into_values() {
        of_volume.sort_by(|a, b| order(b).cmp(&order(a)));
        let (ahead, of_volume): (Vec<&Item>, Vec<&Item>) = of_volume
            .into_iter()
            .partition(|item| is_ahead(item.cut_at, now));
        choices.extend(ahead.into_iter().map(|item| Choice {
            item: item.clone(),
            kept_by: vec![Rule::Ahead],
        }));
        choices.extend(judge(&of_volume, retention, now));
    }
    choices
}

fn order(item: &Item) -> (Timestamp, Timestamp, &SnapshotId) {
    (item.cut_at, item.committed_at, &item.snapshot_id)
}

/// One volume's, newest first.
fn judge(items: &[&Item], retention: &Retention, now: Timestamp) -> Vec<Choice> {
    let mut buckets = [
        (Rule::Daily, Period::Day, retention.daily, None),
        (Rule::Weekly, Period::Week, retention.weekly, None),
        (Rule::Monthly, Period::Month, retention.monthly, None),
        (Rule::Yearly, Period::Year, retention.yearly, None),
    ];
    let mut choices = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let mut kept_by = Vec::new();
        if at < retention.last as usize {
            kept_by.push(Rule::Last);
        }
        if let Some(within) = retention.within
            && now.duration_since(item.cut_at) < within
        {
            kept_by.push(Rule::Within);
        }
        for (rule, period, left, last) in &mut buckets {
            let number = period.of(item.cut_at);
            if *left > 0 && *last != Some(number) {
                *left -= 1;
                *last = Some(number);
                kept_by.push(*rule);
            }
        }
        if at == 0 && kept_by.is_empty() {
            kept_by.push(Rule::Newest);
        }
        choices.push(Choice {
            item: (*item).clone(),
            kept_by,
        });
    }
    choices
}

#[cfg(test)]
mod tests;
