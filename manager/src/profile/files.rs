//! The folder of profiles: read at each use, parsed again only when a file has changed.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Profile, ProfileError};

/// Largest file that is read, in bytes.
pub(super) const FILE_SIZE_MAX: u64 = 256 << 10;
/// Most files that are looked at.
const FILES_MAX: usize = 10_000;

/// What tells that a file has changed: modification time, size, inode.
type Stamp = (i64, i64, u64, u64);
pub(super) type Parsed = Result<Arc<Profile>, Arc<ProfileError>>;

/// The profiles in a folder.
#[derive(Debug)]
pub struct Profiles {
    pub(super) dir: PathBuf,
    pub(super) files_dir: PathBuf,
    cache: Mutex<BTreeMap<PathBuf, (Stamp, Parsed)>>,
    /// Held while a file is written or removed.
    pub(super) writing: Mutex<()>,
}

impl Profiles {
    /// The profiles in `dir`, whose relative file names start from `files_dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, files_dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            files_dir: files_dir.into(),
            cache: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// The profile of a name.
    ///
    /// # Errors
    /// `Unknown`, `Ambiguous`; `Malformed` or `Read` when the file called after the name is no profile.
    pub fn get(&self, name: &str) -> Result<Arc<Profile>, ProfileError> {
        let files = self.read()?;
        let mut found: Option<(PathBuf, Arc<Profile>)> = None;
        let mut unreadable = 0;
        let mut own_error = None;
        for (path, parsed) in files {
            match parsed {
                Ok(profile) if profile.name == name => {
                    if let Some((first, _)) = found {
                        return Err(ProfileError::Ambiguous {
                            name: name.to_owned(),
                            first,
                            second: path,
                        });
                    }
                    found = Some((path, profile));
                }
                Ok(_) => {}
                Err(error) => {
                    unreadable += 1;
                    if path.file_stem().is_some_and(|stem| stem == name) {
                        own_error = Some(error);
                    }
                }
            }
        }
        match (found, own_error) {
            (Some((_, profile)), _) => Ok(profile),
            (None, Some(error)) => Err(copy(&error)),
            (None, None) => Err(ProfileError::Unknown {
                name: name.to_owned(),
                dir: self.dir.clone(),
                unreadable,
            }),
        }
    }

    /// Every profile that can be read, by name. What is wrong with the others stands in the log.
    ///
    /// # Errors
    /// `Read` if the folder cannot be listed; one that is not there is empty.
    pub fn all(&self) -> Result<Vec<Arc<Profile>>, ProfileError> {
        let files = self.read()?;
        let mut profiles: Vec<_> = files.into_iter().filter_map(|(_, p)| p.ok()).collect();
        profiles.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(profiles)
    }

    pub(super) fn read(&self) -> Result<Vec<(PathBuf, Parsed)>, ProfileError> {
        let paths = list(&self.dir)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|path, _| paths.contains(path));
        let mut files = Vec::new();
        for path in paths {
            let stamp = stamp(&path);
            let parsed = match cache.get(&path) {
                Some((known, parsed)) if *known == stamp => parsed.clone(),
                _ => {
                    let parsed = self.parse(&path);
                    if let Err(error) = &parsed {
                        tracing::warn!(%error, "a profile is left out");
                    }
                    cache.insert(path.clone(), (stamp, parsed.clone()));
                    parsed
                }
            };
            files.push((path, parsed));
        }
        Ok(files)
    }

    fn parse(&self, path: &Path) -> Parsed {
        let malformed = |problem: String| {
            Arc::new(ProfileError::Malformed {
                path: path.to_owned(),
                problem,
            })
        };
        let failed = |source| {
            Arc::new(ProfileError::Read {
                path: path.to_owned(),
                source,
            })
        };
        if fs::metadata(path).map_err(failed)?.len() > FILE_SIZE_MAX {
            return Err(malformed(format!(
                "it is larger than {FILE_SIZE_MAX} bytes"
            )));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut profile = parse_text(&text).map_err(malformed)?;
        profile.resolve(&self.files_dir);
        Ok(Arc::new(profile))
    }
}

/// A profile as it is written; what is wrong with it otherwise.
pub(super) fn parse_text(text: &str) -> Result<Profile, String> {
    // JSON is YAML. No snippets: somebody may have written a secret where none belongs.
    let options = serde_saphyr::options! { with_snippet: false };
    let profile: Profile =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    match profile.problem() {
        Some(problem) => Err(problem),
        None => Ok(profile),
    }
}

/// The files of the folder that can be profiles, sorted. Hidden ones belong to editors and to Kubernetes.
fn list(dir: &Path) -> Result<Vec<PathBuf>, ProfileError> {
    let failed = |source| ProfileError::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|e| e.to_str());
        if !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn stamp(path: &Path) -> Stamp {
    fs::metadata(path)
        .map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
        .unwrap_or_default()
}

/// Errors are kept in the cache and handed out more than once; an I/O error cannot be cloned.
fn copy(error: &ProfileError) -> ProfileError {
    match error {
        ProfileError::Read { path, source } => ProfileError::Read {
            path: path.clone(),
            source: io::Error::new(source.kind(), source.to_string()),
        },
        ProfileError::Malformed { path, problem } => ProfileError::Malformed {
            path: path.clone(),
            problem: problem.clone(),
        },
        other => ProfileError::Malformed {
            path: PathBuf::new(),
            problem: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use stockpot_repository::upload::BaseChoice;

    use super::{
        super::{Occurrence, PathStyle},
        *,
    };

    const WHOLE: &str = r#"
name: offsite
description: another building
snapshotProperties:
  schedule: {datetime: "2026-01-01T02:00:00", occurrence: Daily}
  retention: {number: 14, duration: 90}
  disableIncrementalBackups: true
  topology:
    bucket: backups
    prefix: cluster-a/
    endpoint: https://s3.example.net
    region: us-east-1
    pathStyle: path
    caFile: ca.pem
    credentials: {file: /secret/s3, profile: backups}
    key: {file: repository.key}
"#;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Profiles) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let profiles = Profiles::new(dir.path(), "/etc/stockpot");
        (dir, profiles)
    }

    #[test]
    fn a_whole_profile() {
        let (_dir, profiles) =
            folder(&[("any.yaml", WHOLE), (".any.yaml.swp", "x"), ("README", "x")]);
        let profile = profiles.get("offsite").unwrap();
        let properties = profile.snapshot_properties.as_ref().unwrap();
        let schedule = properties.schedule.as_ref().unwrap();
        assert_eq!(schedule.occurrence, Some(Occurrence::Daily));
        assert_eq!(properties.retention.as_ref().unwrap().number, Some(14));
        assert_eq!(profile.base(), BaseChoice::Nothing);
        let topology = profile.topology().unwrap();
        assert_eq!(topology.location(), "s3://backups/cluster-a");
        assert_eq!(topology.path_style, PathStyle::Path);
        assert_eq!(
            topology.ca_file.as_deref(),
            Some(Path::new("/etc/stockpot/ca.pem"))
        );
        let credentials = topology.credentials.as_ref().unwrap();
        assert_eq!(credentials.file.as_deref(), Some(Path::new("/secret/s3")));
        let key = topology.key.as_ref().unwrap();
        assert_eq!(
            key.file.as_deref(),
            Some(Path::new("/etc/stockpot/repository.key"))
        );
        assert_eq!(profiles.all().unwrap().len(), 1);
    }

    #[test]
    fn json_and_the_ways_to_be_unfit_for_a_cloud_copy() {
        let (_dir, profiles) = folder(&[
            (
                "local.json",
                r#"{"name": "local", "snapshotProperties": {"retention": {"number": 3}}}"#,
            ),
            ("bare.yaml", "name: bare"),
            (
                "mixed.yaml",
                "{name: mixed, replicationProperties: {dataProtectionType: x}, snapshotProperties: {topology: {bucket: bbb}}}",
            ),
            (
                "stored.yaml",
                "{name: stored, id: 7, storageType: block, replicationProperties: {}, snapshotProperties: {topology: {bucket: bbb}}}",
            ),
        ]);
        for name in ["local", "bare"] {
            let profile = profiles.get(name).unwrap();
            assert!(matches!(
                profile.topology(),
                Err(ProfileError::NoTopology { .. })
            ));
        }
        let error = profiles.get("mixed").unwrap().topology().unwrap_err();
        assert!(
            error.to_string().contains("replicationProperties"),
            "{error}"
        );
        assert_eq!(
            profiles
                .get("stored")
                .unwrap()
                .topology()
                .unwrap()
                .location(),
            "s3://bbb"
        );
        let error = profiles.get("none").unwrap_err();
        assert!(matches!(error, ProfileError::Unknown { .. }), "{error}");
    }

    #[test]
    fn mistakes_name_the_field_and_secrets_are_not_repeated() {
        for (change, with, named) in [
            ("bucket: backups", "buckt: backups", "buckt"),
            ("bucket: backups", "bucket: ''", "bucket"),
            (
                "region: us-east-1",
                "secretAccessKey: hunter2",
                "secretAccessKey",
            ),
            ("occurrence: Daily", "occurrence: Sometimes", "Sometimes"),
            ("key: {file: repository.key}", "key: {}", "topology.key"),
            (
                "credentials: {file: /secret/s3, profile: backups}",
                "credentials: {}",
                "credentials",
            ),
            ("name: offsite\n", "", "name"),
        ] {
            let (_dir, profiles) = folder(&[("offsite.yaml", &WHOLE.replace(change, with))]);
            let error = profiles.get("offsite").unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn changes_are_seen_and_one_bad_file_does_not_hide_others() {
        let (dir, profiles) = folder(&[("offsite.yaml", WHOLE), ("bad.yaml", "]")]);
        assert!(profiles.get("offsite").is_ok());
        assert!(matches!(
            profiles.get("bad"),
            Err(ProfileError::Malformed { .. })
        ));
        fs::write(
            dir.path().join("offsite.yaml"),
            WHOLE.replace("backups\n", "elsewhere\n"),
        )
        .unwrap();
        let changed = profiles.get("offsite").unwrap();
        assert_eq!(changed.topology().unwrap().bucket, "elsewhere");
        fs::write(dir.path().join("copy.yaml"), WHOLE).unwrap();
        assert!(matches!(
            profiles.get("offsite"),
            Err(ProfileError::Ambiguous { .. })
        ));
        fs::remove_file(dir.path().join("copy.yaml")).unwrap();
        fs::remove_file(dir.path().join("offsite.yaml")).unwrap();
        let error = profiles.get("offsite").unwrap_err();
        assert!(
            matches!(error, ProfileError::Unknown { unreadable: 1, .. }),
            "{error}"
        );
    }
}
