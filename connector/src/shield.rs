//! The two files by which a host does not look into volumes and snapshots: udev's rules and LVM's settings.
//!
//! Whoever holds or attaches both a volume and its snapshot has every identifier in them twice. Without these files the
//! links below `/dev/disk` may go from one to the other, and what lies inside (physical volumes, halves of mirrors) may be
//! activated on the host. Nothing that somebody else wrote is changed: where LVM has a filter already that does not keep it
//! out, it is said what is to be written.

mod filter;
mod settings;

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use self::settings::Value;

/// udev's rules.
pub const UDEV_RULES: &str = include_str!("../host/stockpot.rules");
/// What LVM's settings are to have.
pub const LVM_SETTINGS: &str = include_str!("../host/lvm-stockpot.conf");

const RULES_NAME: &str = "stockpot.rules";
/// Where udev looks; the first is the administrator's.
const RULES_DIRECTORIES: [&str; 4] = [
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
];
/// LVM's settings; what the second says counts more.
const LVM_FILES: [&str; 2] = ["etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf"];
const BEGIN: &str = "# BEGIN stockpot\n";
const END: &str = "# END stockpot\n";

/// What is to be done on a host, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// udev's rules are not there, or are another version's.
    Rules(PathBuf),
    /// LVM has no filter.
    Filter(PathBuf),
    /// LVM has a filter or a setting of the site's own that does not keep it out of our devices: a person has to change it.
    SiteFilter {
        /// The file in which it is.
        path: PathBuf,
        /// What is wrong with it, and what to write.
        problem: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules(path) => write!(
                f,
                "udev's rules are not in {}, or not in this version",
                path.display()
            ),
            Self::Filter(path) => write!(
                f,
                "{} does not keep LVM out of volumes and snapshots",
                path.display()
            ),
            Self::SiteFilter { path, problem } => write!(f, "{}: {problem}", path.display()),
        }
    }
}

/// The files could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct ShieldError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The files of one host.
#[derive(Debug, Clone)]
pub struct Shield {
    root: PathBuf,
}

impl Shield {
    /// Those below this directory; `/` on a running host.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// What is not as it should be.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn check(&self) -> Result<Vec<Gap>, ShieldError> {
        let mut gaps = Vec::new();
        let rules = self.rules();
        if read(&rules)?.is_none_or(|text| text != UDEV_RULES) {
            gaps.push(Gap::Rules(rules));
        }
        gaps.extend(self.lvm()?);
        Ok(gaps)
    }

    /// Puts in place what is missing, and says what it wrote. What only a person can mend, [`check`](Self::check) goes on naming.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn install(&self) -> Result<Vec<PathBuf>, ShieldError> {
        let mut written = Vec::new();
        for gap in self.check()? {
            match gap {
                Gap::Rules(path) => {
                    write(&path, UDEV_RULES)?;
                    written.push(path);
                }
                Gap::Filter(path) => {
                    let text = read(&path)?.unwrap_or_default();
                    write(&path, &with_settings(&text))?;
                    written.push(path);
                }
                Gap::SiteFilter { .. } => {}
            }
        }
        Ok(written)
    }

    /// Where the rules are, or belong: after the rules that name LVM's devices, which not all distributions number alike.
    fn rules(&self) -> PathBuf {
        let early = [
            "usr/lib/udev/rules.d/10-dm.rules",
            "lib/udev/rules.d/10-dm.rules",
        ];
        let number = match early.iter().any(|rules| self.root.join(rules).exists()) {
            true => 12,
            false => 57,
        };
        let name = format!("{number}-{RULES_NAME}");
        let places = RULES_DIRECTORIES.map(|directory| self.root.join(directory).join(&name));
        let found = places.iter().find(|path| path.exists());
        found.unwrap_or(&places[0]).clone()
    }

    fn lvm(&self) -> Result<Option<Gap>, ShieldError> {
        let [general, local] = LVM_FILES.map(|file| self.root.join(file));
        // A host without LVM activates nothing.
        if !general.exists() && !local.exists() {
            return Ok(None);
        }
        let mut filter = None;
        for path in [&general, &local] {
            let text = read(path)?.unwrap_or_default();
            let scanned = settings::value(&text, "scan_lvs");
            if scanned.is_some_and(|value| value != Value::Word("0".to_owned())) {
                let problem =
                    "scan_lvs is not 0, so LVM looks for physical volumes inside logical volumes: \
                               by hand, write scan_lvs = 0"
                        .to_owned();
                let path = path.clone();
                return Ok(Some(Gap::SiteFilter { path, problem }));
            }
            if let Some(Value::Texts(found)) = settings::value(&text, "global_filter") {
                filter = Some((path.clone(), found));
            }
        }
        let Some((path, patterns)) = filter else {
            return Ok(Some(Gap::Filter(local)));
        };
        Ok(filter::hole(&patterns).map(|hole| Gap::SiteFilter {
            path,
            problem: hole.to_string(),
        }))
    }
}

/// The text with our settings at its end, once.
fn with_settings(text: &str) -> String {
    let mut kept = text.to_owned();
    if let Some((before, rest)) = text.split_once(BEGIN) {
        let after = rest.split_once(END).map_or("", |(_, after)| after);
        kept = format!("{before}{after}");
    }
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    format!("{kept}{BEGIN}{LVM_SETTINGS}{END}")
}

fn read(path: &Path) -> Result<Option<String>, ShieldError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("cannot read", path)(source)),
    }
}

/// There is the old file or the new one at any time.
fn write(path: &Path, text: &str) -> Result<(), ShieldError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed("cannot make", directory))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".stockpot-new");
    let temporary = PathBuf::from(temporary);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("cannot write", path)(error)
    })
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ShieldError + 'a {
    move |source| ShieldError {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Shield) {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("etc/lvm")).unwrap();
        fs::write(
            home.path().join("etc/lvm/lvm.conf"),
            "devices {\n\t# global_filter = [ \"a|.*|\" ]\n}\n",
        )
        .unwrap();
        let shield = Shield::below(home.path());
        (home, shield)
    }

    #[test]
    fn what_is_missing_is_put_in_place_once() {
        let (home, shield) = host();
        let local = home.path().join("etc/lvm/lvmlocal.conf");
        fs::write(&local, "local {\n}").unwrap();
        let rules = home.path().join("etc/udev/rules.d/57-stockpot.rules");
        let wanted = [Gap::Rules(rules.clone()), Gap::Filter(local.clone())];
        assert_eq!(shield.check().unwrap(), wanted);
        assert_eq!(shield.install().unwrap(), [rules.clone(), local.clone()]);
        assert_eq!(shield.check().unwrap(), []);
        assert!(shield.install().unwrap().is_empty());
        let text = fs::read_to_string(&local).unwrap();
        assert!(text.starts_with("local {\n}\n# BEGIN"), "{text}");
        assert_eq!(with_settings(&text), text, "twice");
        // An older version's are replaced.
        fs::write(&rules, "# old\n").unwrap();
        assert_eq!(shield.install().unwrap(), [rules]);
        assert_eq!(shield.check().unwrap(), []);
    }

    #[test]
    fn rules_follow_the_numbers_of_the_distribution() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("usr/lib/udev/rules.d");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("10-dm.rules"), "").unwrap();
        let shield = Shield::below(home.path());
        let written = shield.install().unwrap();
        // And without LVM there is nothing for LVM.
        assert_eq!(
            written,
            [home.path().join("etc/udev/rules.d/12-stockpot.rules")]
        );
        // A package's own do as well.
        fs::rename(&written[0], directory.join("12-stockpot.rules")).unwrap();
        assert_eq!(shield.check().unwrap(), []);
    }

    #[test]
    fn a_filter_of_the_sites_own_is_left_to_the_site() {
        for (own, words) in [
            (
                "devices {\n global_filter = [\n  \"a|sda|\",\n  \"r|.*|\" ]\n}\n",
                "\"a|sda|\" of its global_filter accepts /dev/sdaa",
            ),
            // What was asked for by earlier versions.
            (
                "devices { global_filter = [ \"r|^/dev/stockpot/|\", \"a|.*|\" ] }\n",
                "accepts /dev/sdb",
            ),
            (
                "devices/global_filter=\"r|^/dev/sr0$|\"\n",
                "add \"r|^/dev/stockpot/|\"",
            ),
            // Several settings in one line.
            (
                "devices { use_devicesfile = 0 global_filter = [ \"r|^/dev/nbd|\" ] }\n",
                "add \"r|^/dev/stockpot/|\"",
            ),
            ("devices {\n scan_lvs = 1\n}\n", "scan_lvs = 0"),
        ] {
            let (home, shield) = host();
            let general = home.path().join("etc/lvm/lvm.conf");
            fs::write(&general, own).unwrap();
            shield.install().unwrap();
            let gaps = shield.check().unwrap();
            let [Gap::SiteFilter { path, problem }] = &gaps[..] else {
                panic!("{own}: {gaps:?}");
            };
            assert_eq!(*path, general);
            assert!(
                problem.contains(words) && problem.contains("by hand"),
                "{problem}"
            );
            assert_eq!(fs::read_to_string(&general).unwrap(), own);
            assert!(!home.path().join("etc/lvm/lvmlocal.conf").exists());
        }
        for sound in [
            "devices {\n global_filter = [\n  \"a|^/dev/sda3$|\",\n \"r|.*|\" ]\n}\n",
            "devices { scan_lvs = 0 global_filter = \"r|^/dev/stockpot/|\" }\n",
        ] {
            let (home, shield) = host();
            fs::write(home.path().join("etc/lvm/lvm.conf"), sound).unwrap();
            shield.install().unwrap();
            assert_eq!(shield.check().unwrap(), [], "{sound}");
        }
    }

    /// What is installed by us is one of those, and the later file counts.
    #[test]
    fn our_own_settings_keep_lvm_out() {
        let (home, shield) = host();
        shield.install().unwrap();
        assert_eq!(shield.check().unwrap(), []);
        let local = home.path().join("etc/lvm/lvmlocal.conf");
        let text = fs::read_to_string(&local).unwrap();
        fs::write(&local, format!("{text}devices/global_filter=\"a|.*|\"\n")).unwrap();
        assert!(
            matches!(&shield.check().unwrap()[..], [Gap::SiteFilter { path, .. }] if *path == local)
        );
    }
}
