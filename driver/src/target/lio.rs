//! The objects that make one export: made in one order, read back, removed in the reverse order.
//!
//! ```text
//! core/iblock_N/stockpot.HASH.KEY                the backstore; HASH stands for PREFIX
//! iscsi/PREFIX:KEY/tpgt_1                        the target; secrets wanted, unknown initiators refused
//! iscsi/PREFIX:KEY/tpgt_1/lun/lun_0/store     -> the backstore
//! iscsi/PREFIX:KEY/tpgt_1/np/ADDRESS:PORT        a portal
//! iscsi/PREFIX:KEY/tpgt_1/enable                 1 once all of the above is there
//! iscsi/PREFIX:KEY/tpgt_1/acls/INITIATOR         who may log in, with its secrets
//! iscsi/PREFIX:KEY/tpgt_1/acls/INITIATOR/lun_0/lun -> lun/lun_0
//! ```

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    ExportName, Grant, TargetError,
    backstore::{Backstores, Found},
    configfs,
    names::Names,
    portal,
};
use crate::{AccessMode, ChapCredentials, IscsiAuth};

const BACKSTORE_LINK: &str = "store";
const LUN_LINK: &str = "lun";

/// LIO's part of configfs, as far as it is ours.
#[derive(Debug)]
pub(super) struct Lio {
    configfs: PathBuf,
    pub(super) names: Names,
    backstores: Backstores,
    pub(super) portals: Vec<SocketAddr>,
}

impl Lio {
    pub(super) fn new(
        configfs: &Path,
        adapter: u32,
        names: Names,
        portals: Vec<SocketAddr>,
    ) -> Self {
        Self {
            configfs: configfs.to_owned(),
            backstores: Backstores::new(configfs, adapter, names.clone()),
            names,
            portals,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.configfs
    }

    fn fabric(&self) -> PathBuf {
        self.configfs.join("iscsi")
    }

    fn target(&self, name: &ExportName) -> PathBuf {
        self.fabric().join(self.names.iqn(name))
    }

    fn group(&self, name: &ExportName) -> PathBuf {
        self.target(name).join("tpgt_1")
    }

    /// Everything of ours that is there, whole or not.
    pub(super) fn names_there(&self) -> Result<Vec<ExportName>, TargetError> {
        let targets = configfs::objects(&self.fabric())?;
        let mut all: Vec<_> = targets
            .iter()
            .filter_map(|iqn| self.names.of_iqn(iqn))
            .collect();
        all.extend(self.backstores.names()?);
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Whether there is anything of this export.
    pub(super) fn is_there(&self, name: &ExportName) -> bool {
        self.target(name).exists() || self.backstores.path(name).exists()
    }

    /// Whether what is exported by this name now is on another device.
    pub(super) fn is_elsewhere(
        &self,
        name: &ExportName,
        device: &Path,
    ) -> Result<bool, TargetError> {
        let found = self
            .backstores
            .look(name, device, &self.names.serial(name))?;
        Ok(found == Found::Elsewhere)
    }

    /// Makes the target, or what of it is missing. One that is otherwise is made anew, unless hosts are logged in; nobody is
    /// let in to it then.
    pub(super) fn ensure(&self, name: &ExportName, device: &Path) -> Result<(), TargetError> {
        let serial = self.names.serial(name);
        if self.backstores.look(name, device, &serial)? != Found::AsAsked {
            self.remove(name, false)?;
            self.backstores.make(name, device, &serial)?;
        }
        let confined = self.backstores.confine(name);
        let made = confined.and_then(|()| self.ensure_target(name));
        if made.is_err() && self.initiators(name).is_ok_and(|all| all.is_empty()) {
            // Nobody has it: nothing is left of what could not be made.
            if let Err(undo) = self.remove(name, false) {
                tracing::warn!(%name, %undo, "a target that could not be made could not be removed");
            }
        }
        made
    }

    fn ensure_target(&self, name: &ExportName) -> Result<(), TargetError> {
        configfs::make(&self.fabric())?;
        let group = self.group(name);
        configfs::make(&self.target(name))?;
        configfs::make(&group)?;
        // No one comes in unknown or unproven; what is mapped is read-only until it is said otherwise.
        for (attribute, value) in [
            ("authentication", "1"),
            ("generate_node_acls", "0"),
            ("cache_dynamic_acls", "0"),
            ("demo_mode_write_protect", "1"),
            ("demo_mode_discovery", "0"),
            ("prod_mode_write_protect", "1"),
        ] {
            configfs::set(&group.join("attrib").join(attribute), value)?;
        }
        let lun = group.join("lun/lun_0");
        configfs::make(&lun)?;
        configfs::link(&self.backstores.path(name), &lun.join(BACKSTORE_LINK))?;
        let portals = group.join("np");
        let wanted: Vec<_> = self.portals.iter().map(ToString::to_string).collect();
        for extra in configfs::objects(&portals)? {
            if !wanted.contains(&extra) {
                configfs::remove(&portals.join(extra))?;
            }
        }
        for address in &self.portals {
            let path = portals.join(address.to_string());
            if !path.exists() {
                portal::check(*address, self.serves(*address)?)?;
                configfs::make(&path)?;
            }
        }
        configfs::set(&group.join("enable"), "1")
    }

    /// Whether LIO listens there, for us or for others.
    fn serves(&self, address: SocketAddr) -> Result<bool, TargetError> {
        let address = address.to_string();
        for target in configfs::objects(&self.fabric())? {
            let target = self.fabric().join(target);
            for group in configfs::objects(&target)? {
                if target.join(group).join("np").join(&address).exists() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn entry(&self, name: &ExportName, initiator: &str) -> PathBuf {
        self.group(name).join("acls").join(initiator)
    }

    /// Lets an initiator in, with its secrets and its access.
    pub(super) fn admit(&self, name: &ExportName, grant: &Grant) -> Result<(), TargetError> {
        let entry = self.entry(name, &grant.initiator);
        configfs::make(&entry)?;
        let auth = entry.join("auth");
        write_credentials(&auth, "", Some(&grant.auth.initiator))?;
        write_credentials(&auth, "_mutual", grant.auth.target.as_ref())?;
        let mapped = entry.join("lun_0");
        configfs::make(&mapped)?;
        let read_only = grant.mode == AccessMode::ReadOnly;
        if read_only && mapped.join(LUN_LINK).exists() {
            configfs::set(&mapped.join("write_protect"), "1")?;
        }
        configfs::link(&self.group(name).join("lun/lun_0"), &mapped.join(LUN_LINK))?;
        configfs::set(
            &mapped.join("write_protect"),
            if read_only { "1" } else { "0" },
        )
    }

    /// The initiators that may log in.
    pub(super) fn initiators(&self, name: &ExportName) -> Result<Vec<String>, TargetError> {
        configfs::objects(&self.group(name).join("acls"))
    }

    /// The initiators that are logged in now.
    pub(super) fn logged_in(&self, name: &ExportName) -> Result<Vec<String>, TargetError> {
        let mut found = Vec::new();
        for initiator in self.initiators(name)? {
            if self.is_logged_in(name, &initiator)? {
                found.push(initiator);
            }
        }
        Ok(found)
    }

    pub(super) fn is_logged_in(
        &self,
        name: &ExportName,
        initiator: &str,
    ) -> Result<bool, TargetError> {
        let entry = self.entry(name, initiator);
        if !entry.exists() {
            return Ok(false);
        }
        Ok(!configfs::read(&entry.join("info"))?.starts_with("No active iSCSI Session"))
    }

    /// The secrets of an initiator that may log in, as the kernel has them.
    pub(super) fn secrets(
        &self,
        name: &ExportName,
        initiator: &str,
    ) -> Result<Option<IscsiAuth>, TargetError> {
        let auth = self.entry(name, initiator).join("auth");
        if !auth.exists() {
            return Ok(None);
        }
        let Some(initiator) = read_credentials(&auth, "")? else {
            return Ok(None);
        };
        Ok(Some(IscsiAuth {
            initiator,
            target: read_credentials(&auth, "_mutual")?,
        }))
    }

    /// Everyone who may log in, as the kernel has it: for a record that was lost.
    pub(super) fn grants(&self, name: &ExportName) -> Result<Vec<Grant>, TargetError> {
        let mut grants = Vec::new();
        for initiator in self.initiators(name)? {
            let Some(auth) = self.secrets(name, &initiator)? else {
                continue;
            };
            let mapped = self.entry(name, &initiator).join("lun_0");
            // Half made: nobody was told its secrets.
            if !mapped.exists() {
                continue;
            }
            let protected = configfs::read(&mapped.join("write_protect"))?;
            grants.push(Grant {
                initiator,
                host: None,
                mode: if protected == "0" {
                    AccessMode::ReadWrite
                } else {
                    AccessMode::ReadOnly
                },
                auth,
            });
        }
        Ok(grants)
    }

    /// Takes an initiator's access away, which ends its sessions. None is success.
    pub(super) fn expel(&self, name: &ExportName, initiator: &str) -> Result<(), TargetError> {
        let entry = self.entry(name, initiator);
        for mapped in configfs::objects(&entry)?
            .iter()
            .filter(|object| object.starts_with("lun_"))
        {
            let mapped = entry.join(mapped);
            for link in configfs::links(&mapped)? {
                configfs::unlink(&mapped.join(link))?;
            }
            configfs::remove(&mapped)?;
        }
        configfs::remove(&entry)
    }

    /// Removes the target and its backstore, last made first removed. None is success.
    ///
    /// # Errors
    /// `InUse` if somebody is logged in, unless `force` is given, which ends the sessions.
    pub(super) fn remove(&self, name: &ExportName, force: bool) -> Result<(), TargetError> {
        let connected = self.logged_in(name)?;
        if !force && !connected.is_empty() {
            return Err(TargetError::InUse {
                name: name.clone(),
                initiators: connected,
            });
        }
        let group = self.group(name);
        if group.exists() {
            // First, so that nobody logs in while the rest goes.
            configfs::set(&group.join("enable"), "0")?;
        }
        for initiator in self.initiators(name)? {
            self.expel(name, &initiator)?;
        }
        for portal in configfs::objects(&group.join("np"))? {
            configfs::remove(&group.join("np").join(portal))?;
        }
        for lun in configfs::objects(&group.join("lun"))? {
            let lun = group.join("lun").join(lun);
            for link in configfs::links(&lun)? {
                configfs::unlink(&lun.join(link))?;
            }
            configfs::remove(&lun)?;
        }
        configfs::remove(&group)?;
        configfs::remove(&self.target(name))?;
        self.backstores.remove(name)
    }
}

fn write_credentials(
    auth: &Path,
    suffix: &str,
    credentials: Option<&ChapCredentials>,
) -> Result<(), TargetError> {
    let (user, password) = (
        auth.join(format!("userid{suffix}")),
        auth.join(format!("password{suffix}")),
    );
    let Some(credentials) = credentials else {
        // The kernel's word for none.
        configfs::write(&user, "NULL")?;
        return configfs::write(&password, "NULL");
    };
    configfs::set(&user, &credentials.username)?;
    configfs::set_secret(&password, &credentials.password)
}

fn read_credentials(auth: &Path, suffix: &str) -> Result<Option<ChapCredentials>, TargetError> {
    let username = configfs::read(&auth.join(format!("userid{suffix}")))?;
    let password = configfs::read_secret(&auth.join(format!("password{suffix}")))?;
    let there = !username.is_empty() && username != "NULL";
    Ok(there.then_some(ChapCredentials { username, password }))
}
