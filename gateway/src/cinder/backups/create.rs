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
    if wanted.incremental == Some(Flag(true)) {
        has_parent(&gateway, &volume).await?;
    }
    let container = given(wanted.container);
    let profile = match &container {
        Some(container) => profile(&gateway, container).await?,
        None => String::new(),
    };
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
        profile,
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

/// Refuses an increment of nothing.
async fn has_parent(gateway: &Gateway, volume: &str) -> Result<(), Fault> {
    let backups = listed::backups(gateway, volume).await?;
    if backups
        .iter()
        .any(|b| b.status() == BackupStatus::Available)
    {
        return Ok(());
    }
    Err(invalid(
        "backup",
        "No backups available to do an incremental backup.",
    ))
}

/// The profile that a container names: by its own name, or by the prefix of its repository. Empty: the manager decides.
async fn profile(gateway: &Gateway, container: &str) -> Result<String, Fault> {
    let listed = gateway.manager.manager();
    let listed = listed
        .clone()
        .list_profiles(api::ListProfilesRequest {})
        .await?;
    Ok(choose(&listed.into_inner().profiles, container))
}

fn choose(profiles: &[api::Profile], container: &str) -> String {
    let usable = || profiles.iter().filter(|profile| profile.has_topology);
    if let Some(named) = usable().find(|profile| profile.name == container) {
        return named.name.clone();
    }
    let is_prefix = |profile: &&api::Profile| {
        let place = profile.location.strip_prefix("s3://").unwrap_or_default();
        let prefix = place.split_once('/').map_or("", |(_, prefix)| prefix);
        !prefix.is_empty() && prefix == container.trim_matches('/')
    };
    let mut leading = usable().filter(is_prefix);
    match (leading.next(), leading.next()) {
        (Some(only), None) => only.name.clone(),
        _ => String::new(),
    }
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
            assert_eq!(choose(&profiles, container), chosen, "{container}");
        }
    }
}
