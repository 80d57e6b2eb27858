//! Mount options that come from a storage class.

use super::MountError;

/// Options that change what is mounted, or where, instead of how.
const REFUSED: [&str; 14] = [
    "bind",
    "rbind",
    "move",
    "remount",
    "loop",
    "offset",
    "sizelimit",
    "shared",
    "rshared",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "unbindable",
];

/// Options for `mount -o`, each checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MountFlags(Vec<String>);

impl MountFlags {
    /// Takes them over; entries that hold several options, separated by commas, are taken apart.
    pub(crate) fn parse(flags: &[String]) -> Result<Self, MountError> {
        let mut parsed = Vec::new();
        for flag in flags.iter().flat_map(|f| f.split(',')) {
            let refuse = |why| MountError::Flag {
                flag: flag.chars().take(128).collect(),
                why,
            };
            if flag.is_empty() || flag.starts_with('-') {
                return Err(refuse("is not a mount option"));
            }
            if flag
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || c == '"')
            {
                return Err(refuse("has a character that no mount option has"));
            }
            let name = flag.split('=').next().unwrap_or(flag);
            // Options for user space (x-…, X-…) make the mount command do more than mounting.
            if REFUSED.contains(&name) || name.to_ascii_lowercase().starts_with("x-") {
                return Err(refuse("is not taken from a storage class"));
            }
            if !parsed.iter().any(|p| p == flag) {
                parsed.push(flag.to_owned());
            }
        }
        Ok(Self(parsed))
    }

    /// Whether they ask for a read-only mount.
    pub(crate) fn read_only(&self) -> bool {
        self.0.iter().any(|f| f == "ro")
    }

    /// With these added at the end, unless they are there.
    pub(crate) fn with(&self, more: &[&str]) -> Vec<String> {
        let mut all = self.0.clone();
        for flag in more {
            if !all.iter().any(|f| f == flag) {
                all.push((*flag).to_owned());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_and_refuses() {
        let of = |flags: &[&str]| {
            MountFlags::parse(&flags.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>())
        };
        let flags = of(&["noatime,discard", "ro", "noatime"]).unwrap();
        assert!(flags.read_only());
        assert_eq!(
            flags.with(&["nouuid", "ro"]),
            ["noatime", "discard", "ro", "nouuid"]
        );
        assert!(!of(&["errors=remount-ro"]).unwrap().read_only());
        for bad in [
            "",
            "-o",
            "a b",
            "a\n",
            "bind",
            "remount",
            "loop=/dev/loop0",
            "x-mount.mkdir",
            "X-mount.owner=1",
            "a,,b",
        ] {
            assert!(of(&[bad]).is_err(), "{bad:?}");
        }
    }
}
