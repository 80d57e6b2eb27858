//! Who goes on with a profile, and what is reached by it alone.

use std::collections::BTreeSet;

use stockpot_driver::SnapshotId;

use super::place;
use crate::{
    Manager, ManagerError,
    catalog::{BackupStatus, CopyState},
    ids,
    profile::Profile,
    schedules::spec::Spec,
};

impl Manager {
    /// Refuses what would take a profile away from those who go on with it.
    pub(super) async fn refuse_while_needed(
        &self,
        name: &str,
        doing: &str,
    ) -> Result<(), ManagerError> {
        let refused = |who: String| {
            Err(ManagerError::FailedPrecondition(format!(
                "profile {name} cannot {doing}: {who} needs it"
            )))
        };
        let snapshots = self.catalog.snapshots().await?;
        let uploading = snapshots.iter().find(|row| {
            row.profile == name && (row.cloud == CopyState::Pending || row.deleting.is_some())
        });
        if let Some(row) = uploading {
            return refused(format!("snapshot {}, whose upload has not ended,", row.id));
        }
        let backups = self.catalog.backups().await?;
        let needing: BTreeSet<&str> = backups
            .iter()
            .filter(|row| row.profile == name && !row.is_final())
            .map(|row| row.id.as_str())
            .collect();
        match needing.first() {
            Some(id) => refused(format!("backup {id}, which has not ended,")),
            None => Ok(()),
        }
    }

    /// Refuses what would leave cloud copies on record where no profile leads any more.
    pub(super) async fn refuse_while_it_alone_leads(
        &self,
        profile: &Profile,
    ) -> Result<(), ManagerError> {
        let known = self.catalog.repositories().await?;
        let leads = |profile: &Profile| place(profile).and_then(|place| known.get(&place));
        let mut reached = BTreeSet::new();
        for other in self.clouds.all_profiles().await? {
            if other.name != profile.name {
                reached.extend(leads(&other));
            }
        }
        let own = leads(profile);
        let is_lost = |id: &SnapshotId, sent_with: &str| {
            let Some(lies_in) = ids::repository_of(id).map(str::to_owned) else {
                return false;
            };
            // Where nobody has looked what it leads to, it leads to what was sent with it.
            let is_its = own.map_or(sent_with == profile.name, |own| *own == lies_in);
            is_its && !reached.contains(&lies_in)
        };
        let snapshots = self.catalog.snapshots().await?;
        let mut lost: BTreeSet<&str> = snapshots
            .iter()
            .filter(|row| row.cloud == CopyState::Present && is_lost(&row.id, &row.profile))
            .map(|row| row.id.as_str())
            .collect();
        // One that was imported has no other row.
        let backups = self.catalog.backups().await?;
        let available = backups
            .iter()
            .filter(|row| row.status == BackupStatus::Available)
            .filter(|row| is_lost(&row.snapshot_id, &row.profile));
        lost.extend(available.map(|row| row.snapshot_id.as_str()));
        match lost.len() {
            0 => Ok(()),
            count => Err(ManagerError::FailedPrecondition(format!(
                "profile {} cannot be deleted: {count} cloud cop{} on record {} where no other profile leads, and without one nobody could \
                 restore or delete {}. Delete what is not needed, let another profile lead there, or force it",
                profile.name,
                if count == 1 { "y" } else { "ies" },
                if count == 1 { "lies" } else { "lie" },
                if count == 1 { "it" } else { "them" },
            ))),
        }
    }

    /// Refuses what would leave a schedule without its profile; the one that the profile itself says goes with it.
    pub(super) async fn refuse_while_scheduled(
        &self,
        name: &str,
        doing: &str,
    ) -> Result<(), ManagerError> {
        for row in self.catalog.schedules().await? {
            let spec = Spec::of_json(&row.spec)?;
            if spec.profile == name && !spec.of_profile {
                return Err(ManagerError::FailedPrecondition(format!(
                    "profile {name} cannot {doing}: schedule {} needs it; delete that, or let it name another profile",
                    row.name
                )));
            }
        }
        Ok(())
    }
}
