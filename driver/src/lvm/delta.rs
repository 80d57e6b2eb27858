//! Which blocks of a thin snapshot hold data, and which differ from another's: read from a frozen copy of the pool's
//! metadata.
//!
//! The kernel has one frozen copy per pool. Ours is taken and given back under a lock of the pool's, so that tasks
//! and processes queue for it; the volume group's lock is held only around the two messages, so that other
//! operations do not wait for the reading. A crash leaves the copy, and with it blocks of metadata that cannot be
//! used again: whoever comes next, or the check at the next start, finds it with nobody reading it, and lets it go.
//!
//! Both snapshots are read-only, so a block that both have is the same in both, whatever was written since.

use std::{path::Path, time::Duration};

use tokio::io::BufReader;

use super::{
    dm,
    lock::{self, LockGuard},
    pool::Pool,
    thin_xml::{self, Wanted},
    view::View,
};
use crate::{ByteRange, DriverError, SnapshotId, name::Name};

/// How long a frozen copy that is not ours may go unread before it counts as left by a crash.
const STALE_AFTER: Duration = Duration::from_secs(2);
const STALE_POLL: Duration = Duration::from_millis(100);
/// How long one that somebody reads is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes between the tool and the reader of its answer.
const PIPE_BYTES: usize = 64 << 10;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) enum Question {
    Allocated(SnapshotId),
    Changed {
        base: SnapshotId,
        snapshot: SnapshotId,
    },
}

/// The devices of a pool.
#[derive(Debug, Clone)]
struct Devices {
    pool: String,
    metadata: String,
}

impl Pool {
    /// Answers a question. To be run to its end, so that the frozen copy is let go.
    pub(super) async fn ranges(&self, question: &Question) -> Result<Vec<ByteRange>, DriverError> {
        let _turn = self.turn().await?;
        let devices = self.devices();
        {
            // What is not there is refused without a wait.
            let _vg = self.lock_vg().await?;
            asked(&self.look_inside().await?, question)?;
        }
        if !self.clear(&devices, PATIENCE).await? {
            return Err(DriverError::InUse {
                what: format!("the frozen metadata of {}", devices.pool),
                by: format!("another program, which has {} open", devices.metadata),
            });
        }
        let frozen = {
            let _vg = self.lock_vg().await?;
            // Looked up again: a number may be another snapshot's by now. A frozen copy can be taken of an active pool only.
            let asked = asked(&self.look_inside().await?, question)?;
            dm::freeze(&devices.pool).await.map(|()| asked)
        };
        let read = match frozen {
            Ok((wanted, size_bytes)) => read(&devices.metadata, wanted, size_bytes).await,
            // It was refused: a copy that is there now is somebody else's.
            Err(error) if is_refusal(&error) => return Err(error),
            // The kernel may have done it all the same, as when the answer took too long.
            Err(error) => Err(error),
        };
        self.release(&devices).await;
        read
    }

    /// Gives the frozen copy back, if there is one. A lock that cannot be had is no reason to keep it: it would take blocks
    /// of metadata for ever.
    async fn release(&self, devices: &Devices) {
        let _vg = match self.lock_vg().await {
            Ok(lock) => Some(lock),
            Err(error) => {
                tracing::warn!(pool = devices.pool, %error, "frozen metadata is let go without the lock");
                None
            }
        };
        let releasing = async {
            let status = dm::pool_status(&devices.pool).await?;
            match status.is_some_and(|status| status.frozen.is_some()) {
                true => dm::thaw(&devices.pool).await,
                false => Ok(()),
            }
        };
        if let Err(error) = releasing.await {
            tracing::warn!(pool = devices.pool, %error, "the frozen metadata stays for now; the next use lets it go");
        }
    }

    /// Lets go of what a crash left, unless it is in use. Under the volume group's lock.
    pub(super) async fn clear_stale(&self) -> Result<(), DriverError> {
        match lock::try_acquire(&self.config().lock_directory, &self.turn_name()).await? {
            Some(_turn) => self.clear(&self.devices(), STALE_AFTER).await.map(drop),
            // A process that lives has it.
            None => Ok(()),
        }
    }

    /// Waits for this pool's turn, among tasks and processes.
    async fn turn(&self) -> Result<LockGuard, DriverError> {
        lock::acquire_named(&self.config().lock_directory, &self.turn_name()).await
    }

    /// A name that is no volume group's.
    fn turn_name(&self) -> String {
        let config = self.config();
        format!("metadata-{}!{}", config.vg, config.pool)
    }

    async fn lock_vg(&self) -> Result<LockGuard, DriverError> {
        lock::acquire(&self.config().lock_directory, &self.config().vg).await
    }

    fn devices(&self) -> Devices {
        let (vg, pool) = (&self.config().vg, &self.config().pool);
        Devices {
            pool: dm::name(vg, pool, "-tpool"),
            metadata: dm::name(vg, pool, "_tmeta"),
        }
    }

    /// Waits until there is no frozen copy, `false` if somebody reads it all the while; one that nobody reads is let
    /// go. Whoever calls has the pool's turn, so it is none that a living process of ours uses.
    async fn clear(&self, devices: &Devices, patience: Duration) -> Result<bool, DriverError> {
        let started = tokio::time::Instant::now();
        let mut unread_since = started;
        let is_frozen = async || {
            let status = dm::pool_status(&devices.pool).await?;
            Ok::<_, DriverError>(status.is_some_and(|status| status.frozen.is_some()))
        };
        while is_frozen().await? {
            // Once by the pool itself.
            if dm::open_count(&devices.metadata).await? > 1 {
                unread_since = tokio::time::Instant::now();
            }
            if unread_since.elapsed() >= STALE_AFTER {
                tracing::warn!(
                    pool = devices.pool,
                    "letting go of frozen metadata that a crash left"
                );
                dm::thaw(&devices.pool).await?;
            } else if started.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(STALE_POLL).await;
        }
        Ok(true)
    }
}

fn is_refusal(error: &DriverError) -> bool {
    use stockpot_command::CommandError::{Failed, Missing};
    match error {
        DriverError::Command { source, .. } => matches!(source, Failed { .. } | Missing { .. }),
        error => matches!(error, DriverError::Host(_)),
    }
}

/// The numbers of the devices in the pool, and the size of the one that is read.
fn asked(view: &View, question: &Question) -> Result<(Wanted, u64), DriverError> {
    let find = |id: &SnapshotId| {
        let found = view
            .snapshot(id)
            .ok_or_else(|| Name::Snapshot(id.clone()).not_found())?;
        if !found.lv.read_only {
            return Err(DriverError::Unexpected {
                doing: format!("comparing snapshot {id}"),
                answer: format!(
                    "{} is writable, its content may have changed",
                    found.lv.name
                ),
            });
        }
        let number = found.lv.thin_id.ok_or_else(|| DriverError::Unexpected {
            doing: format!("reading LVM's report on {}", found.lv.name),
            answer: "it has no number in the pool".into(),
        })?;
        Ok((number, found.lv.size_bytes))
    };
    match question {
        Question::Allocated(id) => {
            let (device, size_bytes) = find(id)?;
            Ok((Wanted::Mapped { device }, size_bytes))
        }
        Question::Changed { base, snapshot } => {
            let ((left, left_bytes), (right, size_bytes)) = (find(base)?, find(snapshot)?);
            let wanted = Wanted::Changed {
                left,
                right,
                left_bytes,
            };
            Ok((wanted, size_bytes))
        }
    }
}

async fn read(
    metadata: &str,
    wanted: Wanted,
    size_bytes: u64,
) -> Result<Vec<ByteRange>, DriverError> {
    let path = Path::new("/dev/mapper").join(metadata);
    let (answer, sink) = tokio::io::duplex(PIPE_BYTES);
    let path = path.to_string_lossy().into_owned();
    let reading = async {
        // Dropped at the first word that is not understood, which ends the tool.
        let answer = BufReader::new(answer);
        thin_xml::read(answer, wanted, size_bytes).await
    };
    let (ran, ranges) = tokio::join!(dm::read_frozen(&path, wanted, sink), reading);
    let doing = || format!("reading the metadata of the thin pool on {path}");
    match (ran, ranges) {
        (Ok(()), Ok(ranges)) => Ok(ranges),
        (Ok(()), Err(answer)) => Err(DriverError::Unexpected {
            doing: doing(),
            answer,
        }),
        (Err(error @ stockpot_command::CommandError::Missing { .. }), _) => {
            Err(DriverError::command(doing(), error))
        }
        (Err(error), ranges) => {
            if let Err(answer) = ranges {
                tracing::debug!(answer, "the tool's answer");
            }
            Err(DriverError::command(format!("failed {}", doing()), error))
        }
    }
}
