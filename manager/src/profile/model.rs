//! What a profile says. Field names are those of OpenSDS where it has one.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use stockpot_repository::{
    lock::{LockMode, LockPolicy},
    upload::BaseChoice,
};

use super::{ProfileError, Quiesce};

/// A named policy.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "ProfileFile")]
pub struct Profile {
    /// Its name, unique in the folder.
    pub name: String,
    /// In words.
    pub description: String,
    /// What it says of snapshots.
    pub snapshot_properties: Option<SnapshotProperties>,
    /// Names of the policies in it that are about something else.
    pub other_properties: Vec<String>,
}

/// The file as it is written. The policies that are not about snapshots are known by name, so that they can be
/// refused with the right words; anything else is a mistake.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    snapshot_properties: Option<SnapshotProperties>,
    // OpenSDS writes these into every profile that it stores.
    #[serde(default, rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(default, rename = "createdAt")]
    _created_at: Option<IgnoredAny>,
    #[serde(default, rename = "updatedAt")]
    _updated_at: Option<IgnoredAny>,
    #[serde(default, rename = "storageType")]
    _storage_type: Option<IgnoredAny>,
    #[serde(default)]
    provisioning_properties: Option<Other>,
    #[serde(default)]
    replication_properties: Option<Other>,
    #[serde(default)]
    data_protection_properties: Option<Other>,
    #[serde(default)]
    custom_properties: Option<Other>,
}

/// A policy that is only counted: empty ones mean nothing.
type Other = BTreeMap<String, IgnoredAny>;

impl From<ProfileFile> for Profile {
    fn from(file: ProfileFile) -> Self {
        let others = [
            ("provisioningProperties", file.provisioning_properties),
            ("replicationProperties", file.replication_properties),
            ("dataProtectionProperties", file.data_protection_properties),
            ("customProperties", file.custom_properties),
        ];
        let is_set = |other: &Option<Other>| other.as_ref().is_some_and(|map| !map.is_empty());
        Self {
            name: file.name,
            description: file.description,
            snapshot_properties: file.snapshot_properties,
            other_properties: others
                .into_iter()
                .filter(|(_, other)| is_set(other))
                .map(|(name, _)| name.to_owned())
                .collect(),
        }
    }
}

/// The policy for snapshots.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotProperties {
    /// When snapshots are cut.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// How many are kept, and how long.
    #[serde(default)]
    pub retention: Option<Retention>,
    /// Where the cloud copy lies.
    #[serde(default)]
    pub topology: Option<Topology>,
    /// Whether each cloud copy holds all data itself and shares none with earlier ones.
    #[serde(default)]
    pub disable_incremental_backups: bool,
    /// What is done around the cut.
    #[serde(default)]
    pub quiesce: Option<Quiesce>,
}

/// When snapshots are cut.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// The first time, ISO 8601.
    #[serde(default)]
    pub datetime: Option<String>,
    /// How often after that; also read in the spelling `occurence` of the first documents.
    #[serde(default, alias = "occurence")]
    pub occurrence: Option<Occurrence>,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Occurrence {
    /// At the first time alone.
    Once,
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
    /// Every week.
    Weekly,
    /// Every month.
    Monthly,
    /// Every year.
    Yearly,
}

impl Occurrence {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Once,
        Self::Hourly,
        Self::Daily,
        Self::Weekly,
        Self::Monthly,
        Self::Yearly,
    ];

    /// OpenSDS's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Once => "Once",
            Self::Hourly => "Hourly",
            Self::Daily => "Daily",
            Self::Weekly => "Weekly",
            Self::Monthly => "Monthly",
            Self::Yearly => "Yearly",
        }
    }
}

/// How many snapshots are kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retention {
    /// Number of snapshots.
    #[serde(default)]
    pub number: Option<u32>,
    /// Days.
    #[serde(default)]
    pub duration: Option<u32>,
}

/// Where the cloud copy lies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// The bucket.
    pub bucket: String,
    /// Path below the bucket; empty for the whole bucket.
    #[serde(default)]
    pub prefix: String,
    /// `http(s)://host[:port]`; AWS, or what the AWS settings say, without.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The bucket's region.
    #[serde(default)]
    pub region: Option<String>,
    /// How the bucket is named in requests.
    #[serde(default)]
    pub path_style: PathStyle,
    /// PEM file of a private CA.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Where the credentials are; the AWS chain (environment, web identity, instance) without.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Where the key is; the repository is not sealed without.
    #[serde(default)]
    pub key: Option<Key>,
    /// Chunk size of the repository, should it be made.
    #[serde(default)]
    pub chunk_size_bytes: Option<u32>,
    /// Object Lock of all that a cloud copy needs; the bucket has to be made for it. Nothing is locked without.
    #[serde(default)]
    pub lock: Option<Lock>,
}

/// How long, at least, and how well a cloud copy is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// Days from the commit on; 1 to 36,500.
    pub days: u32,
    /// How strong it is.
    #[serde(default = "compliance")]
    pub mode: LockMode,
}

impl Lock {
    /// As the repository takes it.
    #[must_use]
    pub fn policy(&self) -> LockPolicy {
        LockPolicy {
            days: self.days,
            mode: self.mode,
        }
    }
}

fn compliance() -> LockMode {
    LockMode::Compliance
}

impl Topology {
    /// `s3://bucket/prefix`.
    #[must_use]
    pub fn location(&self) -> String {
        match self.prefix.trim_end_matches('/') {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }

    /// What tells this place from every other: location and endpoint.
    #[must_use]
    pub fn place(&self) -> String {
        let endpoint = self.endpoint.as_deref().unwrap_or("aws");
        format!("{} at {endpoint}", self.location())
    }
}

/// How the bucket is named in requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathStyle {
    /// In the path where an endpoint was given, in the host name at AWS.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host name.
    Virtual,
}

/// Where credentials are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// A file in the form of `~/.aws/credentials`.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The section of `file`, or (without `file`) a profile of the AWS configuration files.
    #[serde(default, alias = "awsProfile")]
    pub profile: Option<String>,
}

/// Where the repository's key is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// A file with at least 32 secret bytes.
    #[serde(default, alias = "keyFile")]
    pub file: Option<PathBuf>,
    /// A file with a passphrase.
    #[serde(default)]
    pub passphrase_file: Option<PathBuf>,
}

impl Profile {
    /// The place of the cloud copy.
    ///
    /// # Errors
    /// [`ProfileError::NotAboutSnapshots`], [`ProfileError::NoTopology`].
    pub fn topology(&self) -> Result<&Topology, ProfileError> {
        if !self.other_properties.is_empty() {
            return Err(ProfileError::NotAboutSnapshots {
                name: self.name.clone(),
                properties: self.other_properties.join(", "),
            });
        }
        let properties = self.snapshot_properties.as_ref();
        properties
            .and_then(|properties| properties.topology.as_ref())
            .ok_or_else(|| ProfileError::NoTopology {
                name: self.name.clone(),
            })
    }

    /// What a new cloud copy builds on.
    #[must_use]
    pub fn base(&self) -> BaseChoice {
        match &self.snapshot_properties {
            Some(properties) if properties.disable_incremental_backups => BaseChoice::Nothing,
            _ => BaseChoice::Newest,
        }
    }

    /// How a new cloud copy is locked.
    #[must_use]
    pub fn lock(&self) -> Option<LockPolicy> {
        let topology = self.snapshot_properties.as_ref()?.topology.as_ref()?;
        topology.lock.as_ref().map(Lock::policy)
    }

    /// What is done around a cut.
    #[must_use]
    pub fn quiesce(&self) -> Quiesce {
        let properties = self.snapshot_properties.as_ref();
        let said = properties.and_then(|properties| properties.quiesce.clone());
        said.unwrap_or_else(Quiesce::unsaid)
    }

    /// What does not fit together in it, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        if self.name.is_empty() || self.name.len() > 128 {
            return Some("name: has to have 1 to 128 characters".to_owned());
        }
        let properties = self.snapshot_properties.as_ref()?;
        let first = properties
            .schedule
            .as_ref()
            .and_then(|s| s.datetime.as_ref());
        if let Some(text) = first
            && text.parse::<jiff::civil::DateTime>().is_err()
            && text.parse::<jiff::Timestamp>().is_err()
        {
            return Some(format!("schedule.datetime: {text:?} is no ISO 8601 time"));
        }
        if let Some(problem) = properties.quiesce.as_ref().and_then(Quiesce::problem) {
            return Some(format!("quiesce.{problem}"));
        }
        let topology = properties.topology.as_ref()?;
        if topology.bucket.is_empty() {
            return Some("snapshotProperties.topology.bucket: is empty".to_owned());
        }
        if let Some(credentials) = &topology.credentials
            && credentials.file.is_none()
            && credentials.profile.is_none()
        {
            return Some(
                "topology.credentials: name a file or a profile, or leave it out".to_owned(),
            );
        }
        if let Some(lock) = &topology.lock
            && let Err(error) = lock.policy().check()
        {
            return Some(format!("topology.lock: {error}"));
        }
        match &topology.key {
            Some(key) if key.file.is_some() == key.passphrase_file.is_some() => {
                Some("topology.key: name either a file or a passphraseFile".to_owned())
            }
            _ => None,
        }
    }

    /// Relative file names start from `dir`.
    pub(super) fn resolve(&mut self, dir: &std::path::Path) {
        let Some(properties) = &mut self.snapshot_properties else {
            return;
        };
        let Some(topology) = &mut properties.topology else {
            return;
        };
        let credentials = topology.credentials.as_mut();
        let (key, phrase) = match &mut topology.key {
            Some(key) => (key.file.as_mut(), key.passphrase_file.as_mut()),
            None => (None, None),
        };
        let files = [
            topology.ca_file.as_mut(),
            credentials.and_then(|credentials| credentials.file.as_mut()),
            key,
            phrase,
        ];
        for file in files.into_iter().flatten() {
            // An absolute one stays as it is.
            *file = dir.join(&*file);
        }
    }
}
