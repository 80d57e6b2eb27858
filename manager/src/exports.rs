//! How other hosts get volumes and snapshots of this one: every pool of this host's own hands them out over iSCSI to
//! whoever is another host.
//!
//! To whom what is exported stands in the catalog, sealed with a key that lies beside it (`exports.key`); so whoever
//! reads the catalog alone reads no secret. Targets live in the kernel and outlive this process. At the start those on record
//! whose volume or snapshot is there are kept, or made again with the same secrets; all others are removed, unless a host is
//! logged in, or nothing at all is on record: then the catalog was lost. What cannot be made again at once is tried
//! behind, as long as it is on record.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use stockpot_connector::Connector;
use stockpot_driver::{
    DriverError, ExportingDriver, VolumeDriver,
    exporting::{recover_exports, remake_exports},
    target::{
        ExportName, ExportRecord, ExportRecords, Recorded, RecordsError, RecoveredExports, Sealer,
        TargetError, Targets, Unrecorded,
    },
};

use crate::{
    Config, ManagerError,
    catalog::{Catalog, CatalogError},
    error::chain,
    joined::joined,
};

const KEY_FILE: &str = "exports.key";
/// How long exports that cannot be made again are tried at the start, before other work.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between those.
const PAUSE: Duration = Duration::from_secs(2);

/// Pools by their names.
pub(crate) type Pools = BTreeMap<String, Arc<dyn VolumeDriver>>;

/// The records of exports, in the catalog.
#[derive(Debug, Clone)]
pub(crate) struct SealedCatalog {
    catalog: Catalog,
    sealer: Arc<Sealer>,
}

/// What this host exports.
#[derive(Debug)]
pub(crate) struct Exports {
    targets: Targets,
    drivers: BTreeMap<String, Arc<ExportingDriver>>,
    records: SealedCatalog,
}

impl Exports {
    /// Lets the host's own pools export, if the configuration says how. `connector` says what this host calls itself.
    pub(crate) async fn open(
        config: &Config,
        pools: &mut Pools,
        catalog: &Catalog,
        connector: &dyn Connector,
    ) -> Result<Option<Self>, ManagerError> {
        let Some(settings) = &config.exports else {
            let on_record = catalog.exports().await?.len();
            if on_record > 0 {
                tracing::warn!(
                    on_record,
                    "there are exports on record, and the configuration has no `exports` any more: what of them is in \
                     the kernel stays there until the host is booted again"
                );
            }
            return Ok(None);
        };
        let host = connector.properties().await?.host;
        let key_file = config.state_dir.join(KEY_FILE);
        let sealer = open_sealer(&key_file).await?;
        let records = SealedCatalog {
            catalog: catalog.clone(),
            sealer: Arc::new(sealer),
        };
        let targets = Targets::new(settings.targets(), Arc::new(records.clone()))
            .map_err(DriverError::from)?;
        let mut drivers = BTreeMap::new();
        let own = config.pools.iter().filter(|pool| !pool.is_remote());
        for name in own.map(|pool| pool.name()) {
            if let Some(driver) = pools.get_mut(name) {
                let exporting = ExportingDriver::new(driver.clone(), targets.clone(), &host);
                let exporting = Arc::new(exporting);
                *driver = exporting.clone();
                drivers.insert(name.to_owned(), exporting);
            }
        }
        Ok(Some(Self {
            targets,
            drivers,
            records,
        }))
    }

    /// Brings the kernel's targets to what is on record. What is left to be tried again is returned.
    pub(crate) async fn recover(&self) -> Result<Vec<ExportName>, ManagerError> {
        self.targets
            .mend_records()
            .await
            .map_err(DriverError::from)?;
        let records = self.all().await?;
        // A record is written before its target is made, and removed after it: whatever is in the kernel now, the catalog
        // was lost, and hosts may be at work on it.
        if records.is_empty() {
            tracing::info!("no export is on record; targets in the kernel, if any, are left alone");
            return Ok(Vec::new());
        }
        let mut wanted = Vec::new();
        for record in records {
            // One that cannot be looked for stays wanted.
            if !matches!(self.pool_of(&record.name).await, Ok(None)) {
                wanted.push(record.name);
            }
        }
        let started = Instant::now();
        let drivers = self.drivers();
        let mut done = recover_exports(&self.targets, &drivers, &wanted).await?;
        report_removed(&done);
        // After a boot a portal's address may come later than this daemon.
        while done.failed.iter().any(|(name, _)| wanted.contains(name))
            && started.elapsed() < PATIENCE
        {
            tokio::time::sleep(PAUSE).await;
            done = recover_exports(&self.targets, &drivers, &wanted).await?;
        }
        for (name, error) in &done.failed {
            tracing::error!(%name, error, "an export is not what it should be");
        }
        for name in done.unknown {
            tracing::warn!(%name, "an export cannot be made again: nothing says to whom");
        }
        tracing::info!(
            kept = done.kept.len(),
            made_again = done.remade.len(),
            "exports are as they were"
        );
        let failed = done.failed.into_iter().map(|(name, _)| name);
        Ok(failed.filter(|name| wanted.contains(name)).collect())
    }

    /// Tries again what could not be made again; those that still cannot are returned.
    pub(crate) async fn try_again(&self, names: Vec<ExportName>) -> Vec<ExportName> {
        let done = remake_exports(&self.targets, &self.drivers(), &names).await;
        for name in done.kept.iter().chain(&done.remade) {
            tracing::info!(%name, "the export is what it should be again");
        }
        for (name, error) in &done.failed {
            tracing::warn!(%name, error, "the export is not yet what it should be");
        }
        done.failed.into_iter().map(|(name, _)| name).collect()
    }

    /// The names of all that is on record, whatever it says.
    pub(crate) async fn names(&self) -> Result<Vec<ExportName>, ManagerError> {
        let recorded = self.recorded().await?;
        let readable = recorded.records.into_iter().map(|record| record.name);
        Ok(readable.chain(recorded.unreadable).collect())
    }

    /// Who is let in and on no record.
    pub(crate) async fn unrecorded(&self) -> Result<Vec<Unrecorded>, DriverError> {
        Ok(self.targets.unrecorded().await?)
    }

    /// Takes the access of those away; how many are left, who are logged in.
    pub(crate) async fn expel_unrecorded(&self) -> Result<usize, DriverError> {
        Ok(self.targets.expel_unrecorded().await?.len())
    }

    fn drivers(&self) -> Vec<Arc<ExportingDriver>> {
        self.drivers.values().cloned().collect()
    }

    /// Every export on record; one whose record cannot be read is told to the log.
    pub(crate) async fn all(&self) -> Result<Vec<ExportRecord>, ManagerError> {
        let recorded = self.recorded().await?;
        for name in recorded.unreadable {
            tracing::error!(%name, "the record of an export cannot be read");
        }
        Ok(recorded.records)
    }

    async fn recorded(&self) -> Result<Recorded, ManagerError> {
        let recorded = self.records.all().await;
        Ok(recorded.map_err(|source| {
            DriverError::from(TargetError::Records {
                name: "every export".to_owned(),
                source,
            })
        })?)
    }

    /// Whether the kernel has a target for it.
    pub(crate) fn is_made(&self, name: &ExportName) -> bool {
        self.targets.is_exported(name)
    }

    /// The pool that has it, if any.
    pub(crate) async fn pool_of(&self, name: &ExportName) -> Result<Option<String>, DriverError> {
        let mut problem = None;
        for (pool, driver) in &self.drivers {
            let found = match name {
                ExportName::Volume(id) => driver.volume(id).await.map(|found| found.is_some()),
                ExportName::Snapshot(id) => driver.snapshot(id).await.map(|found| found.is_some()),
            };
            match found {
                Ok(true) => return Ok(Some(pool.clone())),
                Ok(false) => {}
                // It matters only if no other pool has it.
                Err(error) => problem = Some(error),
            }
        }
        problem.map_or(Ok(None), Err)
    }
}

fn report_removed(done: &RecoveredExports) {
    for name in &done.removed {
        tracing::warn!(%name, "an export that nobody wants any more was removed");
    }
}

async fn open_sealer(key_file: &Path) -> Result<Sealer, ManagerError> {
    let path = key_file.to_owned();
    let opening = tokio::task::spawn_blocking(move || {
        let mode = std::fs::metadata(&path).map(|meta| meta.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o007 != 0) {
            return Err(RecordsError::Unreadable(
                "every user of this host can read this key: chmod 600 it, and think of who may have read it"
                    .to_owned(),
            ));
        }
        Sealer::open(&path)
    });
    let opened = joined(opening).await?;
    opened.map_err(|error| ManagerError::SecretFile {
        path: key_file.to_owned(),
        problem: chain(&error),
    })
}

#[async_trait]
impl ExportRecords for SealedCatalog {
    async fn put(&self, record: &ExportRecord) -> Result<(), RecordsError> {
        let sealed = self.sealer.seal(record)?;
        let written = self.catalog.put_export(record.name.key(), sealed).await;
        written.map_err(|error| failed("cannot write the record", error))
    }

    async fn get(&self, name: &ExportName) -> Result<Option<ExportRecord>, RecordsError> {
        let found = self.catalog.export(name.key()).await;
        let Some(sealed) = found.map_err(|error| failed("cannot read the record", error))? else {
            return Ok(None);
        };
        let record = self.sealer.unseal(name, &sealed);
        record.map(Some).ok_or_else(|| {
            RecordsError::Unreadable(format!(
                "the record of {name} is damaged, or was sealed with another {KEY_FILE}"
            ))
        })
    }

    async fn remove(&self, name: &ExportName) -> Result<(), RecordsError> {
        let removed = self.catalog.remove_export(name.key()).await;
        removed.map_err(|error| failed("cannot remove the record", error))
    }

    async fn all(&self) -> Result<Recorded, RecordsError> {
        let rows = self.catalog.exports().await;
        let rows = rows.map_err(|error| failed("cannot list the records", error))?;
        let mut all = Recorded::default();
        for (key, sealed) in rows {
            let Ok(name) = key.parse() else {
                tracing::error!(name = key, "a record of exports has a name that none has");
                continue;
            };
            match self.sealer.unseal(&name, &sealed) {
                Some(record) => all.records.push(record),
                None => all.unreadable.push(name),
            }
        }
        Ok(all)
    }
}

fn failed(doing: &str, error: CatalogError) -> RecordsError {
    RecordsError::because(doing, error)
}

#[cfg(test)]
mod tests {
    use secrecy::{ExposeSecret, SecretString};
    use stockpot_driver::{AccessMode, ChapCredentials, IscsiAuth, target::Grant};

    use super::*;

    fn record(name: &str) -> ExportRecord {
        ExportRecord {
            name: name.parse().unwrap(),
            grants: vec![Grant {
                initiator: "iqn.2026-01.test:a".into(),
                host: Some("worker-1".into()),
                mode: AccessMode::ReadOnly,
                auth: IscsiAuth {
                    initiator: ChapCredentials {
                        username: "in".into(),
                        password: SecretString::from("a-secret-of-many-letters"),
                    },
                    target: None,
                },
            }],
        }
    }

    #[tokio::test]
    async fn a_key_that_anybody_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join(KEY_FILE);
        open_sealer(&key).await.unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = open_sealer(&key).await.unwrap_err().to_string();
        assert!(
            error.contains("exports.key") && error.contains("chmod 600"),
            "{error}"
        );
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        open_sealer(&key).await.unwrap();
    }

    #[tokio::test]
    async fn records_are_sealed_and_survive_in_the_catalog() {
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join(KEY_FILE);
        let open = async || SealedCatalog {
            catalog: Catalog::open(home.path()).unwrap(),
            sealer: Arc::new(open_sealer(&key).await.unwrap()),
        };
        let records = open().await;
        let (one, other) = (record("s.a"), record("v.a"));
        for _ in 0..2 {
            records.put(&one).await.unwrap();
            records.put(&other).await.unwrap();
        }
        assert_eq!(records.get(&one.name).await.unwrap(), Some(one.clone()));
        let secret = one.grants[0].auth.initiator.password.expose_secret();
        for (_, sealed) in records.catalog.exports().await.unwrap() {
            assert!(!sealed.windows(secret.len()).any(|w| w == secret.as_bytes()));
        }
        // A row that was put in the place of another is not believed.
        let sealed = records.catalog.export("s.a".to_owned()).await.unwrap();
        let moved = records
            .catalog
            .put_export("s.b".to_owned(), sealed.unwrap());
        moved.await.unwrap();
        let error = records.get(&"s.b".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        let all = records.all().await.unwrap();
        assert_eq!(all.records, [one.clone(), other.clone()]);
        assert_eq!(all.unreadable, ["s.b".parse().unwrap()]);
        for _ in 0..2 {
            records.remove(&one.name).await.unwrap();
        }
        assert_eq!(records.all().await.unwrap().records, [other]);
    }
}
