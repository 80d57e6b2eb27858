//! Where a backup goes, and where a restore comes from.

use stockpot_proto::stockpot::v1 as api;

use super::documents::BackupSpec;
use crate::{manager::Manager, problem::Problem};

/// The word for a snapshot beside its volume.
pub(super) const LOCAL: &str = "local";
/// What a place in a bucket begins with.
pub(super) const BUCKET: &str = "s3://";

/// Where a backup goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// It stays beside the volume.
    Local,
    /// Into a repository.
    Bucket {
        /// As it was asked for.
        location: String,
        /// The profile that leads there.
        profile: String,
    },
    /// To whoever waits at an address.
    Address(String),
}

impl Destination {
    /// What a document asks for, if there is a way.
    pub(super) async fn of(manager: &Manager, spec: &BackupSpec) -> Result<Self, Problem> {
        let asked = spec.backup_dest.trim();
        if spec.local_snap {
            return Ok(Self::Local);
        }
        if asked.is_empty() {
            return Err(Problem::bad_request(
                "spec.backupDest is missing: s3://BUCKET/PREFIX, or HOST:PORT; or spec.localSnap for a snapshot beside the volume",
            ));
        }
        if asked.starts_with(BUCKET) {
            return bucket(manager, asked).await;
        }
        if !is_address(asked) {
            return Err(Problem::bad_request(format!(
                "spec.backupDest: {} is neither s3://BUCKET/PREFIX nor HOST:PORT",
                shortened(asked)
            )));
        }
        Ok(Self::Address(asked.to_owned()))
    }

    /// As it is kept.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Local => LOCAL,
            Self::Bucket { location, .. } => location,
            Self::Address(address) => address,
        }
    }
}

async fn bucket(manager: &Manager, asked: &str) -> Result<Destination, Problem> {
    let profiles = manager
        .manager()
        .list_profiles(api::ListProfilesRequest {})
        .await?;
    let mut profiles = profiles.into_inner().profiles;
    profiles.retain(|profile| profile.has_topology);
    let asked = asked.trim_end_matches('/');
    let leads_there = |profile: &&api::Profile| profile.location.trim_end_matches('/') == asked;
    if let Some(profile) = profiles.iter().find(leads_there) {
        return Ok(Destination::Bucket {
            location: asked.to_owned(),
            profile: profile.name.clone(),
        });
    }
    let known: Vec<&str> = profiles.iter().map(|p| p.location.as_str()).collect();
    let known = match known.is_empty() {
        true => "no place".to_owned(),
        false => known.join(", "),
    };
    Err(Problem::bad_request(format!(
        "no profile leads to {}; profiles lead to {known}",
        shortened(asked)
    )))
}

/// Whether it has the form of a host and its port.
pub(super) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let is_host = !host.is_empty() && !host.chars().any(|c| c.is_whitespace() || c == '/');
        is_number && is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_names() {
        for good in ["10.0.0.1:9000", "velero:9000", "[2001:db8::1]:9001"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "pvc-1",
            ":9000",
            "a:",
            "a:0",
            "a:99999",
            "a b:1",
            "http://a:1",
            "a:+1",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
