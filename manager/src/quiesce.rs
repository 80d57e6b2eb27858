//! The moment of the cut: mounted file systems are frozen around it, and the commands of the profile run before and after.
//!
//! ```text
//! pre commands → open and write out → freeze → cut → thaw → post commands
//! ```
//!
//! | what lies on the volume's device | who freezes it |
//! | --- | --- |
//! | a file system, directly, on LVM of this host | the kernel, when the cut suspends the device: as briefly as can be, in every mount namespace |
//! | a file system on something in between (LUKS, a partition, a loop device), on iSCSI, on an image file, or a btrfs | the watchdog |
//! | nothing that is mounted here | nobody: `unused` if the device is not open, else `crash` |
//!
//! Not both: before Linux 6.8 the kernel refuses to suspend a device whose file system was frozen by hand, and where it does not, a
//! freeze that begins earlier only lasts longer.
//!
//! The watchdog is another process ([`watchdog`]), so that a manager that dies or hangs leaves nothing frozen. A row stands in the
//! catalog before the first command until after the last one, with the process of the command that runs: the next start thaws, stops
//! that process, and runs what comes after ([`recover`]).
//!
//! A copy is called `file-system` only if every file system stayed frozen until the cut was done.

mod commands;
mod guard;
mod ioctl;
mod mounts;
mod recover;
mod scene;
mod stack;
mod watchdog;
mod words;

use std::collections::BTreeMap;

use stockpot_driver::{DriverError, SnapshotInfo};

pub(crate) use self::scene::NOT_OPEN;
pub use self::watchdog::watchdog;
use self::{
    guard::{Guard, GuardError},
    scene::Scene,
};
use crate::{
    Manager, ManagerError,
    catalog::{Catalog, Consistency, FreezeTimes, Quiescing, SnapshotRow, Undo},
    error::chain,
    profile::{OnFailure, Quiesce},
};

/// What a snapshot shows, and what was done for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    consistency: Consistency,
    text: String,
    frozen_us: u64,
    /// The profile asks for no snapshot rather than this one.
    refused: bool,
}

/// One cut on its way.
struct Moment<'a> {
    manager: &'a Manager,
    row: &'a SnapshotRow,
    asked: Quiesce,
    scene: Scene,
    environment: BTreeMap<String, String>,
    /// It was asked for before, and the storage may have cut it since.
    again: bool,
    /// What is to be told of it.
    told: Vec<String>,
    /// The row that stands.
    recorded: Option<Quiescing>,
    has_begun_pre: bool,
}

impl Manager {
    /// Cuts with all that the profile asks for around it. The caller holds the volume, and says whether this was tried before.
    ///
    /// # Errors
    /// When the cut was not begun.
    pub(crate) async fn quiesced(
        &self,
        row: &SnapshotRow,
        again: bool,
        cut: impl Future<Output = Result<SnapshotInfo, DriverError>>,
    ) -> Result<(Result<SnapshotInfo, DriverError>, Shown), ManagerError> {
        let asked = match row.profile.as_str() {
            "" => Quiesce::unsaid(),
            name => self.clouds.profile(name).await?.quiesce(),
        };
        let scene = self.scene(row).await?;
        let mut moment = Moment {
            manager: self,
            row,
            environment: environment(row, &scene),
            asked,
            scene,
            again,
            told: Vec::new(),
            recorded: None,
            has_begun_pre: false,
        };
        let cut = match moment.before().await {
            Ok(guard) => Ok(moment.cut(guard, cut).await),
            Err(error) => Err(error),
        };
        // Whatever happened: what was paused goes on.
        moment.after().await;
        let (cut, mut shown) = cut?;
        shown.text = words::joined(&moment.told);
        Ok((cut, shown))
    }

    /// Writes down what a snapshot that was cut shows; an error if the profile asks for none rather than this one.
    pub(crate) async fn note_shown(
        &self,
        row: &SnapshotRow,
        shown: &Shown,
    ) -> Result<(), ManagerError> {
        let Shown {
            consistency,
            text,
            frozen_us,
            refused,
        } = shown;
        if *refused {
            return Err(ManagerError::FailedPrecondition(format!(
                "the snapshot would not be what the profile asks for, and is removed: {text}"
            )));
        }
        self.catalog
            .snapshot_shows(&row.id, *consistency, text, *frozen_us)
            .await?;
        let times = self.catalog.freeze_times(&row.volume_id).await?;
        tracing::info!(
            snapshot_id = %row.id,
            %consistency,
            frozen_us,
            frozen_us_median = times.map(|times| times.median_us),
            frozen_us_worst = times.map(|times| times.worst_us),
            "{text}"
        );
        Ok(())
    }

    /// How long the last backups froze the file systems of the volume of this id or name.
    pub(crate) async fn freeze_times(
        &self,
        volume: &str,
    ) -> Result<Option<FreezeTimes>, ManagerError> {
        let named = self.catalog.volume_by_name(volume).await?;
        let id = match (named, volume.parse()) {
            (Some(row), _) => row.id,
            (None, Ok(id)) => id,
            (None, Err(_)) => return Ok(None),
        };
        Ok(self.catalog.freeze_times(&id).await?)
    }
}

impl Moment<'_> {
    /// Commands, then the freeze. `None` where there is nothing that could be frozen.
    async fn before(&mut self) -> Result<Option<Guard>, ManagerError> {
        let has_commands = !(self.asked.pre.is_empty() && self.asked.post.is_empty());
        if has_commands || (self.asked.freeze && !self.scene.frozen.is_empty()) {
            self.record().await?;
        }
        for argv in self.asked.pre.clone() {
            self.has_begun_pre = true;
            let note = self.noted(commands::noted_in);
            let went = commands::run(&argv, &self.environment, self.asked.timeout(), note).await;
            match (went, self.asked.on_failure) {
                (Ok(said), _) => self.told.push(said),
                (Err(problem), OnFailure::Continue) => {
                    self.told.push(problem);
                    self.scene.otherwise = Some((Consistency::Crash, String::new()));
                    break;
                }
                (Err(problem), OnFailure::Fail) => {
                    return Err(ManagerError::FailedPrecondition(format!(
                        "nothing was cut, as the profile asks for: {problem}"
                    )));
                }
            }
        }
        if !self.asked.freeze || self.scene.targets.is_empty() {
            return Ok(None);
        }
        match self.frozen().await {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if self.asked.on_failure == OnFailure::Fail => {
                Err(ManagerError::FailedPrecondition(format!(
                    "nothing was cut, as the profile asks for: {}",
                    chain(&error)
                )))
            }
            Err(error) => {
                tracing::warn!(snapshot_id = %self.row.id, error = chain(&error), "file systems are not frozen for the cut");
                self.told.push(chain(&error));
                self.scene.otherwise = Some((Consistency::Crash, String::new()));
                Ok(None)
            }
        }
    }

    async fn record(&mut self) -> Result<(), ManagerError> {
        let row = Quiescing {
            snapshot_id: self.row.id.clone(),
            volume_id: self.row.volume_id.clone(),
            undo: Undo {
                frozen: self.scene.frozen.clone(),
                post: self.asked.post.clone(),
                timeout_seconds: self.asked.timeout_seconds,
                environment: self.environment.clone(),
                running: None,
            },
        };
        self.manager.catalog.put_quiescing(row.clone()).await?;
        self.recorded = Some(row);
        Ok(())
    }

    /// How a command is put on record, where the cut is.
    fn noted(
        &self,
        by: impl FnOnce(&Catalog, &Quiescing) -> commands::Note,
    ) -> Option<commands::Note> {
        let row = self.recorded.as_ref()?;
        Some(by(&self.manager.catalog, row))
    }

    async fn frozen(&mut self) -> Result<Guard, GuardError> {
        let settings = &self.manager.config.quiesce;
        let targets = std::mem::take(&mut self.scene.targets);
        let mut guard = Guard::start(&settings.watchdog, targets, settings.deadline()).await?;
        guard.freeze().await?;
        Ok(guard)
    }

    /// Cuts, thaws, and says what came of it.
    async fn cut(
        &mut self,
        mut guard: Option<Guard>,
        cut: impl Future<Output = Result<SnapshotInfo, DriverError>>,
    ) -> (Result<SnapshotInfo, DriverError>, Shown) {
        let cut = match &mut guard {
            Some(guard) => guard.during(cut).await,
            None => cut.await,
        };
        let mut shown = self.shown(guard).await;
        if self.again {
            shown.consistency = Consistency::Crash;
            shown.refused = self.asked.on_failure == OnFailure::Fail;
            let why = "it may have been cut by an earlier try, outside of this freeze";
            self.told.push(why.to_owned());
        }
        (cut, shown)
    }

    /// Thaws; what is shown by what was cut until now.
    async fn shown(&mut self, guard: Option<Guard>) -> Shown {
        let mut shown = Shown {
            consistency: Consistency::Crash,
            text: String::new(),
            frozen_us: 0,
            refused: false,
        };
        let Some(guard) = guard else {
            match self.scene.otherwise.take() {
                Some((consistency, why)) => {
                    shown.consistency = consistency;
                    if !why.is_empty() {
                        self.told.push(why);
                    }
                }
                None => self.told.push("the profile asks for no freeze".to_owned()),
            }
            return shown;
        };
        match guard.thaw().await {
            Ok(frozen_us) => {
                shown.frozen_us = frozen_us;
                // A command that failed before may have left a program in the middle of something.
                if self.scene.otherwise.is_none() {
                    shown.consistency = Consistency::FileSystem;
                }
                self.told.extend(self.scene.kinds.iter().cloned());
            }
            Err(error) => {
                shown.frozen_us = error.frozen_us();
                shown.refused = self.asked.on_failure == OnFailure::Fail;
                tracing::warn!(snapshot_id = %self.row.id, error = chain(&error), "file systems did not stay frozen until the cut was done");
                self.told.push(chain(&error));
            }
        }
        shown
    }

    /// What has to be done however the cut went.
    async fn after(&mut self) {
        // Nothing was paused before the first command.
        if self.has_begun_pre || self.asked.pre.is_empty() {
            for argv in &self.asked.post {
                let note = self.noted(commands::noted_if_possible);
                let timeout = self.asked.timeout();
                let went = commands::run(argv, &self.environment, timeout, note).await;
                self.told.push(went.unwrap_or_else(|problem| problem));
            }
        }
        if self.recorded.is_some()
            && let Err(error) = self.manager.catalog.remove_quiescing(&self.row.id).await
        {
            // The next start does it all once more, which does no harm.
            tracing::warn!(snapshot_id = %self.row.id, error = chain(&error), "a cut that is done stays on record");
        }
    }
}

/// What commands are told.
fn environment(row: &SnapshotRow, scene: &Scene) -> BTreeMap<String, String> {
    let device = scene.device.as_ref().map(|path| path.display().to_string());
    [
        ("STOCKPOT_VOLUME_ID", row.volume_id.to_string()),
        ("STOCKPOT_VOLUME_NAME", row.volume_name.clone()),
        ("STOCKPOT_DEVICE", device.unwrap_or_default()),
        ("STOCKPOT_MOUNT_POINTS", scene.points.join("\n")),
    ]
    .map(|(name, value)| (name.to_owned(), value.replace('\0', "")))
    .into()
}
