//! A node record's settings and secrets: one small text file per portal, with mode 0600.
//!
//! `iscsiadm` makes and removes records. Their settings are written into the file, all at once: an argument would show
//! the secrets to every process of the host.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use stockpot_driver::IscsiAuth;
use zeroize::Zeroizing;

use super::{INTERFACE, IscsiConfig, sysfs};
use crate::{ConnectorError, Recovered};

/// A record of ours in a node database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) target: String,
    pub(super) portal: SocketAddr,
    path: PathBuf,
}

/// Every record that is bound to our interface record.
pub(super) fn records(config: &IscsiConfig) -> Result<Vec<Record>, ConnectorError> {
    let mut found = Vec::new();
    for database in &config.node_databases {
        for target in sysfs::names(database)? {
            found.extend(records_in(&database.join(&target), &target)?);
        }
    }
    Ok(found)
}

/// Our records of one target.
pub(super) fn records_of(
    config: &IscsiConfig,
    target: &str,
) -> Result<Vec<Record>, ConnectorError> {
    let mut found = Vec::new();
    // What is no plain name would lead out of the database.
    if Path::new(target).file_name().and_then(|name| name.to_str()) != Some(target) {
        return Err(ConnectorError::Odd(format!(
            "{target:?} is no name of an iSCSI target"
        )));
    }
    for database in &config.node_databases {
        found.extend(records_in(&database.join(target), target)?);
    }
    Ok(found)
}

/// A record is `TARGET/ADDRESS,PORT` or, where the portal group is known, `TARGET/ADDRESS,PORT,GROUP/INTERFACE`.
fn records_in(directory: &Path, target: &str) -> Result<Vec<Record>, ConnectorError> {
    let mut found = Vec::new();
    for name in sysfs::names(directory)? {
        let Some(portal) = parse_portal(&name) else {
            continue;
        };
        let mut path = directory.join(&name);
        if path.is_dir() {
            path = path.join(INTERFACE);
        }
        if is_ours(&path)? {
            found.push(Record {
                target: target.to_owned(),
                portal,
                path,
            });
        }
    }
    Ok(found)
}

/// A record of somebody else's for this target at one of these portals, which making ours would overwrite.
pub(super) fn of_others(
    config: &IscsiConfig,
    target: &str,
    portals: &[SocketAddr],
) -> Result<Option<PathBuf>, ConnectorError> {
    for database in &config.node_databases {
        let directory = database.join(target);
        for name in sysfs::names(&directory)? {
            let at = parse_portal(&name);
            let is_asked = |at| portals.iter().any(|portal| sysfs::is_same(at, *portal));
            if !at.is_some_and(is_asked) {
                continue;
            }
            let path = directory.join(&name);
            let records = match path.is_dir() {
                true => sysfs::names(&path)?
                    .iter()
                    .map(|interface| path.join(interface))
                    .collect(),
                false => vec![path],
            };
            for record in records {
                // An empty one is what a killed process left.
                let is_there = fs::metadata(&record).is_ok_and(|record| record.len() > 0);
                if is_there && !is_ours(&record)? {
                    return Ok(Some(record));
                }
            }
        }
    }
    Ok(None)
}

/// `ADDRESS,PORT` or `ADDRESS,PORT,GROUP`.
fn parse_portal(name: &str) -> Option<SocketAddr> {
    let mut parts = name.split(',');
    let address = parts.next()?.trim_matches(['[', ']']).parse().ok()?;
    Some(SocketAddr::new(address, parts.next()?.parse().ok()?))
}

/// One that another process of open-iscsi's removes meanwhile is not there. Others may have any bytes in theirs.
fn is_ours(path: &Path) -> Result<bool, ConnectorError> {
    match fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => {
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            Ok(value(text, "iface.iscsi_ifacename") == Some(INTERFACE))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(sysfs::failed("cannot read", path)(error)),
    }
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// What a record of ours is to say.
pub(super) struct Settings<'a> {
    auth: Option<&'a IscsiAuth>,
    plain: Vec<(&'static str, String)>,
}

impl<'a> Settings<'a> {
    /// Logged in by us only, the one logical unit scanned by us only, and bounded in time.
    pub(super) fn new(
        config: &IscsiConfig,
        auth: Option<&'a IscsiAuth>,
        several_paths: bool,
    ) -> Self {
        // One try waits for half of the time, and there are two: a busy target often answers the second.
        let login = (config.login_timeout.as_secs() / 2).max(1);
        // Of several paths, one that is lost is given up soon, so that the others are used.
        let replacement = match several_paths {
            true => config.replacement_timeout.as_secs().min(5),
            false => config.replacement_timeout.as_secs(),
        };
        Self {
            auth,
            plain: vec![
                ("node.startup", "manual".into()),
                ("node.conn[0].startup", "manual".into()),
                ("node.session.scan", "manual".into()),
                ("node.session.nr_sessions", "1".into()),
                ("node.session.initial_login_retry_max", "2".into()),
                ("node.conn[0].timeo.login_timeout", login.to_string()),
                ("node.conn[0].timeo.noop_out_interval", "5".into()),
                ("node.conn[0].timeo.noop_out_timeout", "5".into()),
                (
                    "node.session.timeo.replacement_timeout",
                    replacement.to_string(),
                ),
            ],
        }
    }

    fn all(&self) -> Vec<(&'static str, &str)> {
        let plain = self
            .plain
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let mut all: Vec<_> = plain.collect();
        let Some(auth) = self.auth else {
            all.push(("node.session.auth.authmethod", "None"));
            return all;
        };
        all.push(("node.session.auth.authmethod", "CHAP"));
        all.push(("node.session.auth.chap_algs", "SHA3-256,SHA256,SHA1,MD5"));
        all.push(("node.session.auth.username", &auth.initiator.username));
        all.push((
            "node.session.auth.password",
            exposed(&auth.initiator.password),
        ));
        if let Some(target) = &auth.target {
            all.push(("node.session.auth.username_in", &target.username));
            all.push(("node.session.auth.password_in", exposed(&target.password)));
        }
        all
    }

    /// The record with these settings in place of its own.
    fn apply(&self, record: &str) -> Zeroizing<String> {
        let all = self.all();
        let secrets = |name: &str| name.starts_with("node.session.auth.");
        // Room enough at once: growing would leave copies of secrets behind.
        let mut text = Zeroizing::new(String::with_capacity(record.len() + 4096));
        for line in record.lines().filter(|line| !line.starts_with("# END")) {
            let name = line.split_once('=').map_or("", |(name, _)| name.trim());
            if !secrets(name) && !all.iter().any(|(set, _)| *set == name) {
                text.push_str(line);
                text.push('\n');
            }
        }
        for (name, value) in all {
            for part in [name, " = ", value, "\n"] {
                text.push_str(part);
            }
        }
        text.push_str("# END RECORD\n");
        text
    }
}

/// What the names of files begin with that are on their way to be a record.
const TEMPORARY: &str = ".stockpot-record-";
/// A process writes one of them in an instant: an older one is left from a crash, also if its number is another process's now.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// Removes what processes left that were killed while they wrote a record. It holds secrets.
pub(super) fn remove_leftovers(
    config: &IscsiConfig,
    recovered: &mut Recovered,
) -> Result<(), ConnectorError> {
    for directory in config.node_databases.iter().filter_map(|d| d.parent()) {
        for name in sysfs::names(directory)? {
            let path = directory.join(&name);
            if !name
                .strip_prefix(TEMPORARY)
                .is_some_and(|rest| is_left(&path, rest))
            {
                continue;
            }
            let what = format!("unfinished node record {}", path.display());
            match fs::remove_file(&path) {
                Ok(()) => recovered.removed.push(what),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => recovered.failed.push((what, error.to_string())),
            }
        }
    }
    Ok(())
}

/// Whether nobody writes it any more: `PROCESS-NUMBER`.
fn is_left(path: &Path, rest: &str) -> bool {
    let process = rest.split('-').next().unwrap_or_default();
    let lives = !process.is_empty() && Path::new("/proc").join(process).exists();
    let age = fs::metadata(path)
        .ok()
        .and_then(|data| data.modified().ok());
    let age = age.and_then(|modified| modified.elapsed().ok());
    !lives || age.is_some_and(|age| age > LEFT_AFTER)
}

/// Records that this process has written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

fn exposed(secret: &SecretString) -> &str {
    secret.expose_secret()
}

impl Record {
    /// Writes the settings into the record, so that there is the old one or the new one at any time.
    pub(super) fn write(&self, settings: &Settings<'_>) -> Result<(), ConnectorError> {
        let failed = sysfs::failed("cannot write", &self.path);
        let old = Zeroizing::new(fs::read_to_string(&self.path).map_err(failed)?);
        let text = settings.apply(&old);
        // Beside the database, not in it: open-iscsi takes every file in it for a record.
        let database = self.path.ancestors().find(|path| path.ends_with("nodes"));
        let outside = database.and_then(Path::parent).unwrap_or(Path::new("/run"));
        // A name of its own: several records may be written at the same time.
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TEMPORARY}{}-{number}", std::process::id());
        let temporary = outside.join(name);
        let written = write_private(&temporary, text.as_bytes())
            .and_then(|()| fs::rename(&temporary, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed(error)
        })
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // One that a killed process of the same number left.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use stockpot_driver::ChapCredentials;

    use super::*;

    const NEW: &str = "# BEGIN RECORD 2.1.8\nnode.name = iqn.2026-01.test:t\nnode.startup = automatic\n\
                       iface.iscsi_ifacename = stockpot\nnode.session.auth.username_in = old\n# END RECORD\n";

    fn auth(mutual: bool) -> IscsiAuth {
        let credentials = |username: &str, password: &str| ChapCredentials {
            username: username.into(),
            password: SecretString::from(password),
        };
        IscsiAuth {
            initiator: credentials("in", "secret-1"),
            target: mutual.then(|| credentials("out", "secret-2")),
        }
    }

    #[test]
    fn settings_replace_what_the_record_said() {
        let config = IscsiConfig::default();
        let both = auth(true);
        let text = Settings::new(&config, Some(&both), false).apply(NEW);
        for (name, expected) in [
            ("node.name", Some("iqn.2026-01.test:t")),
            ("node.startup", Some("manual")),
            ("node.session.auth.password", Some("secret-1")),
            ("node.session.auth.username_in", Some("out")),
            ("node.session.auth.password_in", Some("secret-2")),
            ("node.session.timeo.replacement_timeout", Some("120")),
        ] {
            assert_eq!(value(&text, name), expected, "{name}");
        }
        assert_eq!(text.matches("# END RECORD").count(), 1);
        assert_eq!(text.matches("node.startup").count(), 1);
        let one_way = auth(false);
        let text = Settings::new(&config, Some(&one_way), true).apply(&text);
        assert_eq!(value(&text, "node.session.auth.password_in"), None);
        assert_eq!(
            value(&text, "node.session.timeo.replacement_timeout"),
            Some("5")
        );
        let text = Settings::new(&config, None, true).apply(&text);
        assert!(!text.contains("secret"));
    }

    #[test]
    fn our_records_are_found_and_others_are_not() {
        let home = tempfile::tempdir().unwrap();
        let nodes = home.path().join("nodes");
        let config = IscsiConfig {
            node_databases: vec![nodes.clone(), home.path().join("none")],
            ..IscsiConfig::default()
        };
        let target = nodes.join("iqn.2026-01.test:t");
        fs::create_dir_all(target.join("fd00::1,3260,1")).unwrap();
        fs::write(target.join("192.0.2.1,3260"), NEW).unwrap();
        fs::write(target.join("fd00::1,3260,1/stockpot"), NEW).unwrap();
        fs::write(
            target.join("192.0.2.2,3260"),
            NEW.replace("= stockpot", "= default"),
        )
        .unwrap();
        fs::write(target.join("odd"), NEW).unwrap();
        fs::write(
            target.join("192.0.2.3,3260"),
            b"iface.iscsi_ifacename = \xff\n",
        )
        .unwrap();
        let others = |portal: &str| {
            let portals = [portal.parse().unwrap()];
            of_others(&config, "iqn.2026-01.test:t", &portals).unwrap()
        };
        for ours in ["192.0.2.1:3260", "[fd00::1]:3260", "192.0.2.2:3261"] {
            assert_eq!(others(ours), None, "{ours}");
        }
        assert_eq!(
            others("192.0.2.2:3260"),
            Some(target.join("192.0.2.2,3260"))
        );
        fs::write(target.join("fd00::1,3260,1/default"), "a = b\n").unwrap();
        assert_eq!(
            others("[fd00::1]:3260"),
            Some(target.join("fd00::1,3260,1/default"))
        );
        fs::remove_file(target.join("fd00::1,3260,1/default")).unwrap();
        let mut portals: Vec<_> = records(&config)
            .unwrap()
            .into_iter()
            .map(|r| r.portal.to_string())
            .collect();
        portals.sort();
        assert_eq!(portals, ["192.0.2.1:3260", "[fd00::1]:3260"]);
        for outside in ["", "..", "../nodes/iqn.2026-01.test:t", "/etc", "a/"] {
            let refused = records_of(&config, outside);
            assert!(
                matches!(refused, Err(ConnectorError::Odd(_))),
                "{outside}: {refused:?}"
            );
        }
        let record = &records_of(&config, "iqn.2026-01.test:t").unwrap()[0];
        let both = auth(true);
        record
            .write(&Settings::new(&config, Some(&both), false))
            .unwrap();
        assert_eq!(
            record.path.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "a temporary file was left"
        );
        assert!(is_ours(&record.path).unwrap());
    }

    #[test]
    fn what_a_killed_process_left_unwritten_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let config = IscsiConfig {
            node_databases: vec![home.path().join("nodes"), home.path().join("none/nodes")],
            ..IscsiConfig::default()
        };
        let (mine, dead) = (std::process::id(), "4194305");
        for name in [
            format!("{TEMPORARY}{mine}-0"),
            format!("{TEMPORARY}{dead}-7"),
        ] {
            fs::write(home.path().join(name), "a secret").unwrap();
        }
        fs::write(home.path().join("iscsid.conf"), "").unwrap();
        let mut recovered = Recovered::default();
        remove_leftovers(&config, &mut recovered).unwrap();
        assert!(
            matches!(&recovered.removed[..], [one] if one.ends_with("4194305-7")),
            "{recovered:?}"
        );
        assert_eq!(recovered.failed, []);
        let mut left: Vec<_> = fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [format!("{TEMPORARY}{mine}-0"), "iscsid.conf".into()]);
    }
}
