//! What calls may not say in a profile, though a file may: whoever may call is not whoever may write to this host's files.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::Profile;

/// Names of fields that hold a secret wherever they stand. Compared in small letters, without `-` and `_`.
const SECRETS: [&str; 9] = [
    "secret",
    "secretkey",
    "secretaccesskey",
    "accesskey",
    "password",
    "passphrase",
    "privatekey",
    "sessiontoken",
    "token",
];

/// The first field that would bring a secret into a profile.
pub(super) fn secret_in(fields: &Map<String, Value>) -> Option<&str> {
    fields.iter().find_map(|(name, value)| {
        let plain = name.to_ascii_lowercase().replace(['-', '_'], "");
        let says_something = !matches!(value, Value::Null | Value::Bool(_));
        if SECRETS.contains(&plain.as_str()) && says_something {
            return Some(name.as_str());
        }
        deeper(value)
    })
}

fn deeper(value: &Value) -> Option<&str> {
    match value {
        Value::Object(fields) => secret_in(fields),
        Value::Array(items) => items.iter().find_map(deeper),
        _ => None,
    }
}

/// The files that a profile names, as it writes them.
pub(super) fn files_of(profile: &Profile) -> Vec<&PathBuf> {
    let topology = profile.snapshot_properties.as_ref();
    let Some(topology) = topology.and_then(|properties| properties.topology.as_ref()) else {
        return Vec::new();
    };
    let credentials = topology.credentials.as_ref();
    let key = topology.key.as_ref();
    let files = [
        topology.ca_file.as_ref(),
        credentials.and_then(|credentials| credentials.file.as_ref()),
        key.and_then(|key| key.file.as_ref()),
        key.and_then(|key| key.passphrase_file.as_ref()),
    ];
    files.into_iter().flatten().collect()
}

/// The commands that a document wants run around the cut; the daemon would run them as root.
pub(super) fn commands_in(fields: &Map<String, Value>) -> [Option<&Value>; 2] {
    let quiesce = fields
        .get("snapshotProperties")
        .and_then(|properties| properties.get("quiesce"));
    ["pre", "post"].map(|side| {
        let commands = quiesce.and_then(|quiesce| quiesce.get(side));
        commands.filter(|commands| commands.as_array().is_none_or(|list| !list.is_empty()))
    })
}

/// Whether a file lies in the folder that is meant for them.
pub(super) fn lies_in(file: &Path, folder: &Path) -> bool {
    let whole = folder.join(file);
    let climbs = |part: Component<'_>| matches!(part, Component::ParentDir);
    whole.starts_with(folder) && !file.as_os_str().is_empty() && !file.components().any(climbs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        for (document, found) in [
            (
                json!({"customProperties": {"a": [{"Secret_Access-Key": "x"}]}}),
                true,
            ),
            (json!({"password": "x"}), true),
            (json!({"customProperties": {"token": {"a": 1}}}), true),
            (
                json!({"passphraseFile": "x", "key": {"file": "y"}, "password": null}),
                false,
            ),
        ] {
            let fields = document.as_object().unwrap();
            assert_eq!(secret_in(fields).is_some(), found, "{document}");
        }
    }

    #[test]
    fn commands_are_found() {
        let found = |document: Value| {
            let fields = document.as_object().unwrap().clone();
            commands_in(&fields).map(|commands| commands.is_some())
        };
        let with =
            |quiesce: Value| json!({"name": "a", "snapshotProperties": {"quiesce": quiesce}});
        assert_eq!(found(json!({"name": "a"})), [false, false]);
        assert_eq!(
            found(with(json!({"freeze": true, "pre": []}))),
            [false, false]
        );
        assert_eq!(found(with(json!({"pre": ["/bin/sh"]}))), [true, false]);
        assert_eq!(found(with(json!({"post": [["/bin/sh"]]}))), [false, true]);
        assert_eq!(found(with(json!({"post": "x"}))), [false, true]);
    }

    #[test]
    fn files_stay_in_their_folder() {
        let folder = Path::new("/etc/stockpot");
        for (file, inside) in [
            ("ca.pem", true),
            ("a/b", true),
            ("/etc/stockpot/key", true),
            ("", false),
            ("/etc/shadow", false),
            ("../shadow", false),
            ("a/../../shadow", false),
            ("/etc/stockpot/../shadow", false),
            ("/etc/stockpot-other/key", false),
        ] {
            assert_eq!(lies_in(Path::new(file), folder), inside, "{file}");
        }
    }
}
