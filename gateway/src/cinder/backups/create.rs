//! Asking for a backup.

use std::collections::BTreeMap;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus};
use utoipa::ToSchema;

use super::view;
use crate::{
    cinder::{
        Body, Fault, Made,
        asked::{Asked, ProjectPath},
        fields::{self, Flag, given},
        invalid, listed, made,
        page::summary,
        refused, snapshots, volumes,
        words::Words,
    },
    state::Gateway,
};

/// The body of a call that makes a backup.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cinder) struct CreateBackup {
    backup: NewBackup,
}

/// What a backup is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewBackup {
    /// The volume that is backed up.
    volume_id: String,
    /// Also while it is in use: then a temporary snapshot is read.
    #[serde(default)]
    force: Option<Flag>,
    /// `display_name` means the same.
    #[serde(default, alias = "display_name")]
    name: Option<String>,
    /// `display_description` means the same.
    #[serde(default, alias = "display_description")]
    description: Option<String>,
    /// The name of a profile, or the prefix of one's repository. Any other name is only kept and shown.
    #[serde(default)]
    container: Option<String>,
    /// True: refused where there is nothing to build on. Otherwise what is sent is as little as can be.
    #[serde(default)]
    incremental: Option<Flag>,
    /// A snapshot of the volume that is backed up instead of what is in the volume now.
    #[serde(default)]
    snapshot_id: Option<String>,
    /// From 3.43 on.
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    /// From 3.51 on.
    #[serde(default)]
    availability_zone: Option<String>,
}

/// Begins a backup of a volume.
#[utoipa::path(post, path = "/backups", tag = "cinder", operation_id = "cinder_create_backup",
    params(ProjectPath), request_body = CreateBackup,
    responses((status = 202, description = "it has begun", body = Value),
        (status = 400, description = "the volume is in use, or the request does not fit"),
        (status = 404, description = "there is no such volume or snapshot")))]
pub(in crate::cinder) async fn create(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<CreateBackup>,
) -> Result<Made, Fault> {
    let wanted = body.0.backup;
    wanted.check()?;
    let volume = volumes::find(&gateway, &wanted.volume_id).await?.volume_id;
    let container = given(wanted.container);
    let profile = profile(&gateway, container.as_deref().unwrap_or_default()).await?;
    if wanted.incremental == Some(Flag(true))
        && let Some(profile) = &profile
    {
        has_parent(&gateway, &volume, profile).await?;
    }
    let snapshot = match given(wanted.snapshot_id) {
        Some(id) => Some(snapshots::find(&gateway, &id).await?.snapshot_id),
        None => None,
    };
    let words = Words {
        container,
        snapshot: snapshot.clone(),
        metadata: wanted.metadata.unwrap_or_default(),
        ..Words::new(&asked, given(wanted.name), given(wanted.description))
    };
    let request = api::CreateBackupRequest {
        // Made up: in Cinder several may have the same.
        name: String::new(),
        volume,
        // Empty: which one stays open, and the manager says what there are.
        profile: profile.map(|profile| profile.name).unwrap_or_default(),
        force: wanted.force.unwrap_or_default().0,
        metadata: words.write(),
        full: false,
        snapshot_id: snapshot.unwrap_or_default(),
    };
    let begun = gateway.manager.backups().create_backup(request).await;
    let begun = begun.map_err(refused("volume"))?.into_inner();
    let entry = view::entry(&asked, &begun, &[]);
    let body = json!({"backup": summary(&entry.view)});
    Ok(made(StatusCode::ACCEPTED, begun.backup_id, body))
}

impl NewBackup {
    fn check(&self) -> Result<(), Fault> {
        fields::check_text("volume_id", &self.volume_id)?;
        let texts = [
            ("name", &self.name),
            ("description", &self.description),
            ("container", &self.container),
            ("snapshot_id", &self.snapshot_id),
        ];
        for (field, text) in texts {
            fields::check_len(field, text.as_deref().unwrap_or_default())?;
        }
        if let Some(metadata) = &self.metadata {
            fields::check_metadata(metadata)?;
        }
        fields::check_zone(self.availability_zone.as_deref())
    }
}

/// Refuses an increment of nothing: what lies in another repository is nothing to build on.
async fn has_parent(gateway: &Gateway, volume: &str, profile: &api::Profile) -> Result<(), Fault> {
    let backups = listed::backups(gateway, volume).await?;
    if backups.iter().any(|backup| is_parent(backup, profile)) {
        return Ok(());
    }
    Err(invalid(
        "backup",
        "No backups available to do an incremental backup.",
    ))
}

fn is_parent(backup: &api::Backup, profile: &api::Profile) -> bool {
    backup.status() == BackupStatus::Available && backup.profile == profile.name
}

/// The profile that a container names: by its own name, or by the prefix of its repository; else the only one there is.
async fn profile(gateway: &Gateway, container: &str) -> Result<Option<api::Profile>, Fault> {
    let listed = gateway.manager.manager();
    let listed = listed
        .clone()
        .list_profiles(api::ListProfilesRequest {})
        .await?;
    let profiles = listed.into_inner().profiles;
    Ok(choose(&profiles, container).cloned())
}

fn choose<'a>(profiles: &'a [api::Profile], container: &str) -> Option<&'a api::Profile> {
    let usable = || profiles.iter().filter(|profile| profile.has_topology);
    if let Some(named) = usable().find(|profile| profile.name == container) {
        return Some(named);
    }
    let is_prefix = |profile: &&api::Profile| {
        let place = profile.location.strip_prefix("s3://").unwrap_or_default();
        let prefix = place.split_once('/').map_or("", |(_, prefix)| prefix);
        !prefix.is_empty() && prefix == container.trim_matches('/')
    };
    only(usable().filter(is_prefix)).or_else(|| only(usable()))
}

fn only<T>(mut of: impl Iterator<Item = T>) -> Option<T> {
    let first = of.next();
    first.filter(|_| of.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_names_a_profile_or_its_prefix() {
        let profile = |name: &str, location: &str| api::Profile {
            name: name.to_owned(),
            has_topology: !location.is_empty(),
            location: location.to_owned(),
            ..Default::default()
        };
        let profiles = [
            profile("local", ""),
            profile("offsite", "s3://backups/nightlybackups"),
            profile("weekly", "s3://backups/a/b"),
            profile("whole", "s3://bucket"),
            profile("twin-1", "s3://one/twin"),
            profile("twin-2", "s3://two/twin"),
        ];
        for (container, chosen) in [
            ("offsite", "offsite"),
            ("nightlybackups", "offsite"),
            ("a/b", "weekly"),
            ("b", ""),
            ("bucket", ""),
            ("local", ""),
            ("twin", ""),
            ("/", ""),
            ("elsewhere", ""),
        ] {
            let found = choose(&profiles, container).map_or("", |profile| &profile.name);
            assert_eq!(found, chosen, "{container}");
        }
        for container in ["", "elsewhere", "offsite"] {
            let found = choose(&profiles[..2], container).map(|profile| &profile.name);
            assert_eq!(found.map(String::as_str), Some("offsite"), "{container}");
        }
    }

    #[test]
    fn what_lies_in_another_repository_is_no_parent() {
        let profile = api::Profile {
            name: "offsite".to_owned(),
            ..Default::default()
        };
        for (name, status, is) in [
            ("offsite", BackupStatus::Available, true),
            ("elsewhere", BackupStatus::Available, false),
            ("offsite", BackupStatus::Error, false),
        ] {
            let backup = api::Backup {
                profile: name.to_owned(),
                status: status.into(),
                ..Default::default()
            };
            assert_eq!(is_parent(&backup, &profile), is, "{backup:?}");
        }
    }
}
