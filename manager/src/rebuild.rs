//! A catalog that was lost is made again: volumes and local snapshots from what the storage knows of them, cloud copies and backups
//! from the repositories of all profiles, and what only the old catalog knows from there, as far as it can be read.
//!
//! It works on the configuration while no daemon runs, asks storage and buckets and changes nothing in them. The new catalog is
//! made beside, whole, and put in place by one rename; the old file is kept. What nothing knows any more is said aloud.
//!
//! | module | what it does |
//! | --- | --- |
//! | `gather` | asks the pools and the buckets |
//! | `rows` | decides which rows follow from that |

mod gather;
mod rows;

use std::path::{Path, PathBuf};

use tokio_util::task::TaskTracker;

use self::gather::Gathered;
use crate::{
    ManagerError, Parts,
    catalog::{
        BackupRow, Catalog, SnapshotRow, VolumeRow,
        rebuild::{Existing, Site},
    },
    cloud::Clouds,
    config::Config,
    profile::Profiles,
};

/// What is wanted of a rebuild.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Only says what would be done.
    pub dry_run: bool,
    /// Also where a sound catalog is.
    pub force: bool,
    /// Leaves out pools and buckets that cannot be asked.
    pub skip_unreachable: bool,
}

/// What was made, or would be.
#[derive(Debug)]
pub struct Rebuilt {
    /// The rows of volumes.
    pub volumes: Vec<VolumeRow>,
    /// Those of snapshots.
    pub snapshots: Vec<SnapshotRow>,
    /// Backups that were found in buckets.
    pub backups: Vec<BackupRow>,
    /// What was taken over from the old catalog, table by table, or why it could not be.
    pub kept: Vec<(String, Result<u64, String>)>,
    /// What was there before, in words.
    pub before: String,
    /// What is not known any more, and what was left out.
    pub remarks: Vec<String>,
    /// Where the old file is now, if there was one.
    pub aside: Option<PathBuf>,
    /// Whether the new catalog is in place.
    pub done: bool,
}

/// Makes the catalog of a configuration again.
///
/// # Errors
/// `Catalog(Locked)` while a daemon works with it; `FailedPrecondition` where a sound catalog is, without `force`; whatever keeps a
/// pool or a bucket from being asked, without `skip_unreachable`.
pub async fn rebuild(
    config: &Config,
    parts: Parts,
    options: Options,
) -> Result<Rebuilt, ManagerError> {
    config.check()?;
    let site = Site::lock(&config.state_dir)?;
    let done = make(config, parts, options, &site).await;
    match done {
        Ok(mut rebuilt) if !options.dry_run => {
            rebuilt.aside = site.put()?;
            rebuilt.done = true;
            Ok(rebuilt)
        }
        other => {
            site.clear()?;
            other
        }
    }
}

/// Makes the new catalog in its own folder.
async fn make(
    config: &Config,
    parts: Parts,
    options: Options,
    site: &Site,
) -> Result<Rebuilt, ManagerError> {
    let before = standing(&config.state_dir, site.existing()?, options)?;
    let folder = site.new_dir();
    let catalog = Catalog::open(&folder)?;
    let profiles = Profiles::new(&config.profiles_dir, &config.credentials_dir).into();
    let clouds = Clouds::new(
        profiles,
        parts.stores.clone(),
        catalog.clone(),
        TaskTracker::new(),
    );
    let filled = fill(config, &parts, options, site, &catalog, &clouds).await;
    drop(clouds);
    catalog.close(&folder).await?;
    let (rows, kept) = filled?;
    Ok(Rebuilt {
        volumes: rows.volumes,
        snapshots: rows.snapshots,
        backups: rows.backups,
        kept,
        before,
        remarks: rows.remarks,
        aside: None,
        done: false,
    })
}

/// Refuses to replace what is sound; otherwise what is there, in words.
fn standing(
    state_dir: &Path,
    existing: Existing,
    options: Options,
) -> Result<String, ManagerError> {
    let place = state_dir.display();
    match existing {
        Existing::None => Ok(format!("there is no catalog in {place}, or an empty one")),
        Existing::Damaged(why) => Ok(format!("the catalog in {place} cannot be used: {why}")),
        Existing::Sound(rows) if options.force || options.dry_run => Ok(format!(
            "the catalog in {place} is sound and has {rows} volumes and snapshots"
        )),
        Existing::Sound(rows) => Err(ManagerError::FailedPrecondition(format!(
            "the catalog in {place} is sound and has {rows} volumes and snapshots: `stockpot catalog check` compares it with what is \
             there; --dry-run shows what would be made, --force makes it again all the same and keeps the old file"
        ))),
    }
}

type Kept = Vec<(String, Result<u64, String>)>;

async fn fill(
    config: &Config,
    parts: &Parts,
    options: Options,
    site: &Site,
    catalog: &Catalog,
    clouds: &Clouds,
) -> Result<(rows::Rows, Kept), ManagerError> {
    let gathered = Gathered::ask(config, parts, clouds, options.skip_unreachable).await?;
    let rows = rows::decide(
        config,
        gathered,
        site.said("volumes"),
        site.said("snapshots"),
        site.not_whole(),
    );
    let kept = site.keep(catalog).await?;
    let made = catalog.fill(
        rows.volumes.clone(),
        rows.snapshots.clone(),
        rows.backups.clone(),
    );
    made.await?;
    Ok((rows, kept))
}
