//! Profiles by call, beside those written by hand.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;

fn folder() -> (tempfile::TempDir, Profiles) {
    let dir = tempfile::tempdir().unwrap();
    let profiles = Profiles::new(dir.path().join("profiles"), "/etc/stockpot");
    (dir, profiles)
}

fn text(value: &Value) -> String {
    value.to_string()
}

fn offsite() -> Value {
    json!({
        "name": "offsite", "description": "another building", "storageType": "block",
        "snapshotProperties": {
            "schedule": {"datetime": "2026-01-01T02:00:00", "occurrence": "Daily"},
            "topology": {"bucket": "backups", "prefix": "a", "caFile": "ca.pem", "key": {"file": "/etc/stockpot/k"}},
        },
    })
}

#[test]
fn what_is_made_is_a_file_like_any_other_and_asking_again_makes_no_other() {
    let (_dir, profiles) = folder();
    let made = profiles.create(&text(&offsite())).unwrap();
    assert_eq!(made.id.len(), 36);
    assert_eq!(made.id.as_bytes()[14], b'7');
    assert_eq!(made.path.file_name().unwrap(), "offsite.json");
    let read = profiles.get("offsite").unwrap();
    assert_eq!(read.topology().unwrap().location(), "s3://backups/a");
    assert_eq!(*read, made.profile);
    let again = profiles.create(&text(&offsite())).unwrap();
    assert_eq!(
        (again.id, again.fields),
        (made.id.clone(), made.fields.clone())
    );
    let mut other = offsite();
    other["description"] = json!("elsewhere");
    let error = profiles.create(&text(&other)).unwrap_err();
    assert!(matches!(error, ProfileError::Exists { .. }), "{error}");
    for which in ["offsite", &made.id] {
        let found = profiles.text(which).unwrap().unwrap();
        assert_eq!(found.fields["createdAt"], made.fields["createdAt"]);
    }
    profiles.remove(&made).unwrap();
    profiles.remove(&made).unwrap();
    assert!(profiles.text("offsite").unwrap().is_none());
    let left: Vec<_> = fs::read_dir(&profiles.dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_change_keeps_the_id_and_what_was_written_by_hand() {
    let (_dir, profiles) = folder();
    let made = profiles.create(&text(&offsite())).unwrap();
    let hand = profiles.dir.join("hand.yaml");
    let written = "# ours\nname: hand\nsnapshotProperties: {topology: {bucket: b, credentials: {file: /root/s3}}}\n";
    fs::write(&hand, written).unwrap();
    let mut renamed = offsite();
    renamed["name"] = json!("further");
    let change = profiles.plan(&made.id, &text(&renamed)).unwrap().unwrap();
    assert_eq!(change.before.profile.name, "offsite");
    let changed = profiles.carry_out(change).unwrap();
    assert_eq!((changed.id, changed.path), (made.id.clone(), made.path));
    assert!(profiles.get("offsite").is_err());
    assert_eq!(profiles.get("further").unwrap().name, "further");
    renamed["name"] = json!("hand");
    let error = profiles.plan(&made.id, &text(&renamed)).unwrap_err();
    assert!(matches!(error, ProfileError::Exists { .. }), "{error}");
    // One by hand: its name is its id, and its files may stay where they are.
    let found = profiles.text("hand").unwrap().unwrap();
    assert_eq!((found.id.as_str(), &found.path), ("hand", &hand));
    let said = json!({"name": "hand", "description": "new",
        "snapshotProperties": {"topology": {"bucket": "b", "credentials": {"file": "/root/s3"}}}});
    let change = profiles.plan("hand", &text(&said)).unwrap().unwrap();
    let changed = profiles.carry_out(change).unwrap();
    assert_eq!(changed.id, "hand");
    assert_eq!(profiles.get("hand").unwrap().description, "new");
    assert!(profiles.plan("none", &text(&said)).unwrap().is_none());
}

#[test]
fn where_copies_go_by_a_file_and_how_long_they_are_locked_stays() {
    let (_dir, profiles) = folder();
    let mut locked = offsite();
    locked["snapshotProperties"]["topology"]["lock"] = json!({"days": 30, "mode": "governance"});
    let made = profiles.create(&text(&locked)).unwrap();
    let mut hand = locked.clone();
    hand["name"] = json!("hand");
    let path = profiles.dir.join("hand.json");
    fs::write(&path, text(&hand)).unwrap();
    let with = |document: &Value, field: &str, value: Value| {
        let mut document = document.clone();
        let topology = &mut document["snapshotProperties"]["topology"];
        match value.is_null() {
            true => drop(topology.as_object_mut().unwrap().remove(field)),
            false => topology[field] = value,
        }
        document
    };
    for (field, value, by_call) in [
        ("endpoint", json!("http://203.0.113.1"), true),
        ("bucket", json!("others"), true),
        ("prefix", json!("other"), true),
        ("key", Value::Null, true),
        ("lock", Value::Null, false),
        ("lock", json!({"days": 31, "mode": "governance"}), false),
        ("lock", json!({"days": 30}), false),
    ] {
        let error = profiles.plan("hand", &text(&with(&hand, field, value.clone())));
        let error = error.unwrap_err();
        assert!(matches!(error, ProfileError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("hand.json"), "{error}");
        let planned = profiles.plan(&made.id, &text(&with(&locked, field, value)));
        assert_eq!(planned.is_ok(), by_call, "{field}: {planned:?}");
    }
    let mut bare = hand.clone();
    bare["snapshotProperties"] = json!({});
    profiles.plan("hand", &text(&bare)).unwrap_err();
    // The rest of it is changed as ever.
    hand["description"] = json!("new");
    hand["snapshotProperties"]["retention"] = json!({"number": 3});
    profiles.plan("hand", &text(&hand)).unwrap().unwrap();
}

#[test]
fn a_change_is_made_only_to_what_it_was_planned_for() {
    let (_dir, profiles) = folder();
    let made = profiles.create(&text(&offsite())).unwrap();
    let said = |name: &str, description: &str| {
        let mut document = offsite();
        document["name"] = json!(name);
        document["description"] = json!(description);
        let planned = profiles.plan(&made.id, &text(&document));
        planned.unwrap().unwrap()
    };
    let (first, second) = (said("offsite", "first"), said("offsite", "second"));
    profiles.carry_out(first).unwrap();
    let error = profiles.carry_out(second).unwrap_err();
    assert!(matches!(error, ProfileError::Changed { .. }), "{error}");
    assert_eq!(profiles.get("offsite").unwrap().description, "first");
    // The name that it is to get is taken meanwhile.
    let renamed = said("further", "first");
    profiles.create(r#"{"name": "further"}"#).unwrap();
    let error = profiles.carry_out(renamed).unwrap_err();
    assert!(matches!(error, ProfileError::Exists { .. }), "{error}");
    // What was removed does not come back.
    let late = said("offsite", "late");
    profiles.remove(&made).unwrap();
    let error = profiles.carry_out(late).unwrap_err();
    assert!(matches!(error, ProfileError::Changed { .. }), "{error}");
    assert!(!made.path.exists());
}

#[test]
fn what_is_refused_leaves_nothing() {
    let (_dir, profiles) = folder();
    let mut documents = vec![
        ("[]".to_owned(), "JSON"),
        ("{".to_owned(), "JSON"),
        ("{}".to_owned(), "name"),
        (text(&json!({"name": ""})), "name"),
        (text(&json!({"name": "a\nb"})), "control"),
        (text(&json!({"name": "a", "colour": "red"})), "colour"),
        (text(&json!({"name": 7})), "string"),
        (
            text(&json!({"name": "a", "customProperties": {"password": "hunter2"}})),
            "password",
        ),
        ("x".repeat(200_000), "larger"),
        (
            text(&json!({"name": "a", "snapshotProperties": {"quiesce": {"pre": ["/bin/sh"]}}})),
            "quiesce",
        ),
    ];
    for (field, value) in [
        ("bucket", json!("")),
        ("buckt", json!("b")),
        ("caFile", json!("/etc/shadow")),
        ("key", json!({"file": "../shadow"})),
        ("key", json!({"passphraseFile": "/root/p"})),
        ("credentials", json!({"file": "/root/.aws/credentials"})),
        ("credentials", json!({"secretAccessKey": "hunter2"})),
        ("lock", json!({"days": 0})),
    ] {
        let mut document = offsite();
        document["snapshotProperties"]["topology"][field] = value;
        documents.push((text(&document), ""));
    }
    for (document, named) in documents {
        let error = profiles.create(&document).unwrap_err();
        assert!(
            matches!(error, ProfileError::Refused { .. }),
            "{document}: {error}"
        );
        let error = error.to_string();
        assert!(error.contains(named), "{document}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(!profiles.dir.exists());
}

#[test]
fn what_would_be_too_large_to_be_read_again_is_not_written() {
    let (_dir, profiles) = folder();
    // Small as it is sent; in the file each number stands on a line of its own, far to the right.
    let deep = |depth: usize, numbers: usize| {
        let mut value = json!(vec![1; numbers]);
        for _ in 0..depth {
            value = json!([value]);
        }
        text(&json!({"name": "deep", "customProperties": {"a": value}}))
    };
    let large = deep(40, 6000);
    assert!(large.len() < DOCUMENT_SIZE_MAX);
    let error = profiles.create(&large).unwrap_err();
    assert!(matches!(error, ProfileError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("nest less"), "{error}");
    assert!(!profiles.dir.exists());
    let long = json!({"name": "long", "description": "x".repeat(DOCUMENT_SIZE_MAX)});
    let error = profiles.create(&text(&long)).unwrap_err();
    assert!(error.to_string().contains("larger"), "{error}");
    // One that is there stays as it is.
    profiles.create(&deep(1, 10)).unwrap();
    let error = profiles.plan("deep", &large).unwrap_err();
    assert!(matches!(error, ProfileError::Refused { .. }), "{error}");
    // The largest that is taken is read again.
    let within = (0..6000).rev().map(|numbers| deep(40, numbers));
    let taken = within.step_by(100).find_map(|document| {
        let change = profiles.plan("deep", &document).ok()??;
        profiles.carry_out(change).ok()
    });
    let fields = taken.unwrap().fields;
    assert_eq!(profiles.text("deep").unwrap().unwrap().fields, fields);
}

#[test]
fn names_that_are_no_file_names_and_files_that_are_not_ours() {
    let (dir, profiles) = folder();
    fs::create_dir(&profiles.dir).unwrap();
    fs::write(profiles.dir.join("taken.yaml"), "name: someone").unwrap();
    for name in ["taken", "../escape", "a/b", ".hidden", "ü"] {
        let made = profiles.create(&text(&json!({"name": name}))).unwrap();
        assert_eq!(made.path.parent().unwrap(), profiles.dir);
        let stem = made.path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(stem, made.id, "{name}");
        assert_eq!(profiles.get(name).unwrap().name, name);
    }
    // As Kubernetes mounts them.
    let real = dir.path().join("real.yaml");
    fs::write(&real, "name: linked").unwrap();
    symlink(&real, profiles.dir.join("linked.yaml")).unwrap();
    let found = profiles.text("linked").unwrap().unwrap();
    let error = profiles.remove(&found).unwrap_err();
    assert!(matches!(error, ProfileError::Linked { .. }), "{error}");
    let error = profiles
        .plan("linked", r#"{"name": "linked"}"#)
        .unwrap_err();
    assert!(matches!(error, ProfileError::Linked { .. }), "{error}");
}
