//! The calls, one at a time, each bounded in time and done to its end.

use std::sync::Arc;

use stockpot_command::Command;

use super::{
    ExportName, ExportRecords, ExportSource, ExportedTarget, TargetError, TargetsConfig,
    asking::Asking,
    lio::Lio,
    names::Names,
    work::{Inner, Turn},
};
use crate::{AccessMode, task};

/// The iSCSI targets of this host.
#[derive(Debug, Clone)]
pub struct Targets {
    pub(super) inner: Arc<Inner>,
}

impl Targets {
    /// The targets of this host; nothing is done yet.
    ///
    /// # Errors
    /// `Config` if the prefix is no iSCSI name, or a portal is none that an initiator could reach.
    pub fn new(
        config: TargetsConfig,
        records: Arc<dyn ExportRecords>,
    ) -> Result<Self, TargetError> {
        let names = Names::new(&config.iqn_prefix)?;
        if config.portals.is_empty() {
            return Err(TargetError::Config(
                "name at least one portal (address:port)".into(),
            ));
        }
        for portal in &config.portals {
            if portal.ip().is_unspecified() || portal.port() == 0 {
                return Err(TargetError::Config(format!(
                    "portal {portal}: name an address that initiators can reach, and a port"
                )));
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                lio: Arc::new(Lio::new(
                    &config.configfs,
                    config.adapter,
                    names,
                    config.portals,
                )),
                records,
                lock: Arc::default(),
                deadline: config.deadline,
            }),
        })
    }

    /// Checks that the kernel has a target; loads its modules where they are only not loaded.
    ///
    /// # Errors
    /// `Host`, saying what to do.
    pub async fn check(&self) -> Result<(), TargetError> {
        let root = self.inner.lio.root();
        if root.join("core").exists() {
            return Ok(());
        }
        let modules = [
            "-a",
            "target_core_mod",
            "target_core_iblock",
            "iscsi_target_mod",
        ];
        let loaded = Command::new("modprobe")
            .package("kmod")
            .args(modules)
            .run()
            .await;
        if root.join("core").exists() {
            return Ok(());
        }
        let why = loaded
            .err()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        Err(TargetError::Host(format!(
            "{} is not there; mount configfs (`mount -t configfs none /sys/kernel/config`) and load the kernel's target \
             (`modprobe -a target_core_iblock iscsi_target_mod`){why}",
            root.display()
        )))
    }

    /// Lets an initiator connect, and says how. For a connection that is there, the same answer, secrets included.
    ///
    /// # Errors
    /// `DeviceBusy`, `PortalInUse`, `PortalAddress`, `Initiator`; `OtherHost` if the initiator was let in for another host;
    /// `InUse` if others are connected to it by another device.
    pub async fn connect(
        &self,
        source: &ExportSource,
        host: &str,
        initiator: &str,
        mode: AccessMode,
    ) -> Result<ExportedTarget, TargetError> {
        let asking = Asking::new(host, initiator)?;
        self.check().await?;
        let source = source.clone();
        self.whole(|inner, turn| async move { inner.connect(turn, source, asking, mode).await })
            .await
    }

    /// Takes an initiator's access away; with the last one the target goes. None is success.
    ///
    /// # Errors
    /// `InUse` if it is logged in and stays so, unless `force` is given, which ends its sessions; `OtherHost` if it was let in
    /// for another host; `Stuck`.
    pub async fn disconnect(
        &self,
        name: &ExportName,
        host: &str,
        initiator: &str,
        force: bool,
    ) -> Result<(), TargetError> {
        let (name, asking) = (name.clone(), Asking::new(host, initiator)?);
        self.whole(|inner, turn| async move { inner.disconnect(turn, name, asking, force).await })
            .await
    }

    /// Removes an export and what is recorded of it. None is success.
    ///
    /// # Errors
    /// `InUse` while somebody is logged in, `Stuck`.
    pub async fn remove(&self, name: &ExportName) -> Result<(), TargetError> {
        let name = name.clone();
        self.whole(|inner, turn| async move { inner.remove(turn, name, false).await.map(drop) })
            .await
    }

    /// The initiators that are let in to an export now, or will be when it is made again; none if it is not exported.
    ///
    /// # Errors
    /// If the kernel or the records cannot be asked; `Stuck`.
    pub async fn admitted(&self, name: &ExportName) -> Result<Vec<String>, TargetError> {
        let name = name.clone();
        self.whole(|inner, turn| async move { inner.admitted(turn, &name).await })
            .await
    }

    /// What the hosts on record may do at most; `None` if there are none.
    ///
    /// # Errors
    /// `Records`.
    pub async fn mode(&self, name: &ExportName) -> Result<Option<AccessMode>, TargetError> {
        let record = self.inner.record(name).await?;
        let modes = record
            .into_iter()
            .flat_map(|record| record.grants)
            .map(|grant| grant.mode);
        Ok(modes.reduce(|one, other| match other {
            AccessMode::ReadWrite => other,
            AccessMode::ReadOnly => one,
        }))
    }

    /// Whether there is a target for it, or a part of one.
    #[must_use]
    pub fn is_exported(&self, name: &ExportName) -> bool {
        self.inner.lio.is_there(name)
    }

    /// Waits for its turn and does the work to its end, even if the caller goes away meanwhile.
    pub(super) async fn whole<T, F>(
        &self,
        work: impl FnOnce(Arc<Inner>, Turn) -> F,
    ) -> Result<T, TargetError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, TargetError>> + Send + 'static,
    {
        let inner = self.inner.clone();
        let turn = inner.turn().await?;
        task::to_the_end(work(inner, turn)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::SealedDirectory, *};

    async fn targets(change: impl FnOnce(&mut TargetsConfig)) -> Result<Targets, TargetError> {
        let home = tempfile::tempdir().unwrap();
        let records = SealedDirectory::open(home.path(), &home.path().join("key"))
            .await
            .unwrap();
        let portal = "192.0.2.1:3260".parse().unwrap();
        let mut config = TargetsConfig::new("iqn.2026-01.test:node", vec![portal]);
        config.configfs = home.path().join("none");
        change(&mut config);
        Targets::new(config, Arc::new(records))
    }

    #[tokio::test]
    async fn a_configuration_that_cannot_work_is_refused() {
        let refused = [
            targets(|c| c.portals.clear()).await,
            targets(|c| c.portals = vec!["0.0.0.0:3260".parse().unwrap()]).await,
            targets(|c| c.portals = vec!["[::1]:0".parse().unwrap()]).await,
            targets(|c| c.iqn_prefix = "node".into()).await,
        ];
        for result in refused {
            assert!(matches!(result, Err(TargetError::Config(_))), "{result:?}");
        }
    }

    #[tokio::test]
    async fn a_step_that_hangs_blocks_later_calls_but_no_caller_for_ever() {
        let targets = targets(|c| c.deadline = Duration::from_millis(100))
            .await
            .unwrap();
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let stuck = targets
            .whole(|inner, turn| async move {
                inner
                    .step(turn, "hanging", move |_| {
                        let _ = hang.recv();
                        Ok(())
                    })
                    .await
                    .map(drop)
            })
            .await;
        assert!(matches!(
            stuck,
            Err(TargetError::Stuck {
                doing: "hanging",
                ..
            })
        ));
        let name = ExportName::Volume("a".parse().unwrap());
        assert!(matches!(
            targets.remove(&name).await,
            Err(TargetError::Stuck { .. })
        ));
        drop(release);
        // The turn comes back when the step has ended.
        drop(targets.inner.lock.lock().await);
        targets.remove(&name).await.unwrap();
    }
}
