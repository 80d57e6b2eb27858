//! One device out of several paths, by dm-multipath and its daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use stockpot_command::{Command, find_program};
use tokio::time::Instant;

use super::sysfs::{self, Disk};
use crate::ConnectorError;

const POLL: Duration = Duration::from_millis(50);

/// A multipath map, told from later ones of the same number by its uuid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// The kernel's name, `dm-0`.
    kernel_name: String,
    name: String,
    uuid: String,
}

/// Whether multipathd is there and answers.
pub(super) async fn is_running() -> bool {
    if find_program("multipathd").is_none() {
        return false;
    }
    let asked = Command::new("multipathd")
        .args(["show", "daemon"])
        .deadline(Duration::from_secs(5));
    asked
        .run()
        .await
        .is_ok_and(|answer| answer.stdout_text().starts_with("pid "))
}

/// The map that a disk is a path of.
pub(super) fn map_of(disk: &Disk) -> Result<Option<Map>, ConnectorError> {
    let holders = Path::new("/sys/class/block")
        .join(&disk.name)
        .join("holders");
    let mut found = sysfs::names(&holders)?.into_iter().filter_map(map);
    Ok(found.next())
}

fn map(kernel_name: String) -> Option<Map> {
    let dm = Path::new("/sys/class/block").join(&kernel_name).join("dm");
    let read = |name| Some(fs::read_to_string(dm.join(name)).ok()?.trim().to_owned());
    let uuid: String = read("uuid")?;
    uuid.starts_with("mpath-").then_some(Map {
        name: read("name")?,
        kernel_name,
        uuid,
    })
}

/// Makes one map of all disks, and waits until each is in it.
pub(super) async fn assemble(disks: &[Disk], limit: Duration) -> Result<Map, ConnectorError> {
    let Some(first) = disks.first() else {
        return Err(ConnectorError::Host(
            "no path is there to make a multipath device of".into(),
        ));
    };
    // By default multipathd makes maps only of what it was told to.
    run(
        Command::new("multipath").arg("-a").arg(first.path()),
        "registering a multipath device",
    )
    .await?;
    let started = Instant::now();
    loop {
        let mut missing = Vec::new();
        let mut maps = Vec::new();
        for disk in disks {
            match map_of(disk)? {
                Some(map) => maps.push(map),
                None => missing.push(disk),
            }
        }
        maps.dedup();
        if let (true, [map]) = (missing.is_empty(), &maps[..]) {
            return Ok(map.clone());
        }
        if started.elapsed() >= limit {
            return Err(ConnectorError::Missing {
                path: PathBuf::from(format!("multipath device of {}", first.name)),
                waited_seconds: limit.as_secs(),
            });
        }
        for disk in missing {
            // It may not have seen the device yet, or have it already: what counts is the map.
            let added = Command::new("multipathd")
                .args(["add", "path", &disk.name])
                .run()
                .await;
            if let Err(error) = added {
                tracing::debug!(disk = disk.name, %error, "multipathd did not take the path");
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Takes one path out of whatever map has it. What fails is told to the log: the disk itself is on its way out.
pub(super) async fn remove_path(disk: &Disk) {
    let removed = Command::new("multipathd")
        .args(["del", "path", &disk.name])
        .deadline(Duration::from_secs(20))
        .run()
        .await;
    if let Err(error) = removed {
        tracing::warn!(disk = disk.name, %error, "multipathd did not let go of a path");
    }
}

impl Map {
    /// The name of a path that is none of these disks, if there is one.
    pub(super) fn path_of_others(&self, disks: &[Disk]) -> Result<Option<String>, ConnectorError> {
        let paths = Path::new("/sys/class/block")
            .join(&self.kernel_name)
            .join("slaves");
        let mut paths = sysfs::names(&paths)?.into_iter();
        Ok(paths.find(|path| disks.iter().all(|disk| disk.name != *path)))
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.name)
    }

    pub(super) fn size_bytes(&self) -> Result<u64, ConnectorError> {
        sysfs::size_bytes(&self.kernel_name)
    }

    /// Takes over the new size of its paths.
    pub(super) async fn resize(&self) -> Result<(), ConnectorError> {
        let command = Command::new("multipathd").args(["resize", "map", &self.name]);
        run(command, "resizing a multipath device").await
    }

    /// Removes it. What waits for a lost path fails first: otherwise it would wait for ever, and the removal with it. If it cannot be removed, it
    /// waits again: somebody uses it.
    pub(super) async fn remove(&self, limit: Duration) -> Result<(), ConnectorError> {
        self.tell("disablequeueing").await;
        let removed = self.take_out(limit).await;
        if removed.is_err() {
            self.tell("restorequeueing").await;
        }
        removed?;
        let wwid = self.uuid.trim_start_matches("mpath-");
        run(
            Command::new("multipath").args(["-w", wwid]),
            "forgetting a multipath device",
        )
        .await
    }

    async fn tell(&self, what: &str) {
        let told = Command::new("multipathd").args([what, "map", &self.name]);
        if let Err(error) = told.run().await {
            tracing::debug!(map = self.name, what, %error, "multipathd did not do as it was told");
        }
    }

    async fn take_out(&self, limit: Duration) -> Result<(), ConnectorError> {
        let started = Instant::now();
        while self.is_there() {
            let removed = Command::new("multipath")
                .arg("-f")
                .arg(&self.name)
                .run()
                .await;
            if !self.is_there() {
                break;
            }
            if started.elapsed() >= limit {
                if let Err(source) = removed {
                    return Err(ConnectorError::Command {
                        doing: "removing a multipath device",
                        source,
                    });
                }
                return Err(ConnectorError::Stuck {
                    doing: "removing a multipath device",
                    path: self.path(),
                    waited_seconds: limit.as_secs(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        map(self.kernel_name.clone()).is_some_and(|found| found.uuid == self.uuid)
    }
}

async fn run(command: Command, doing: &'static str) -> Result<(), ConnectorError> {
    let command = command
        .package("multipath-tools")
        .deadline(Duration::from_secs(20));
    match command.run().await {
        Ok(_) => Ok(()),
        Err(source) => Err(ConnectorError::Command { doing, source }),
    }
}
