use stockpot_proto::csi::v1::volume_capability::{AccessMode, BlockVolume, MountVolume};

use super::*;

fn capability(mode: Mode, access_type: Option<AccessType>) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type,
    }
}

fn mount(fs_type: &str) -> Option<AccessType> {
    Some(AccessType::Mount(MountVolume {
        fs_type: fs_type.to_owned(),
        ..Default::default()
    }))
}

#[test]
fn ids() {
    for good in ["a", "vol-n1-01hz", &"a".repeat(63)] {
        assert!(is_id(good), "{good}");
    }
    for bad in [
        "",
        "A",
        "1a",
        "-a",
        "a_b",
        "a/b",
        "../a",
        "é",
        &"a".repeat(64),
    ] {
        assert!(!is_id(bad), "{bad}");
    }
    assert!(matches!(
        existing_id("volume_id", "volume", ""),
        Err(RequestError::Missing { .. })
    ));
    assert!(matches!(
        existing_id("volume_id", "volume", "../etc"),
        Err(RequestError::NoSuch { .. })
    ));
}

#[test]
fn names() {
    assert_eq!(name(&"n".repeat(128)), Ok(()));
    assert_eq!(name("größe\tmit leer"), Ok(()));
    for bad in ["", "a\0", "a\u{7f}", "a\u{9f}", &"n".repeat(129)] {
        assert!(name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn paths() {
    assert_eq!(path("p", "/a/b/"), Ok(PathBuf::from("/a/b")));
    for bad in ["", "/", "a/b", "/a/../b", "/a\0b", "/a/.."] {
        assert!(path("p", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn capacities() {
    let range = |required_bytes, limit_bytes| {
        Capacity::parse(Some(&CapacityRange {
            required_bytes,
            limit_bytes,
        }))
    };
    assert_eq!(Capacity::parse(None), Ok(Capacity::default()));
    assert!(range(5, 0).is_ok() && range(5, 5).is_ok() && range(0, 5).is_ok());
    assert!(matches!(
        range(6, 5),
        Err(RequestError::CapacityRange { .. })
    ));
    for (required, limit) in [(-1, 0), (0, -1), (i64::MIN, i64::MIN)] {
        assert!(matches!(
            range(required, limit),
            Err(RequestError::Invalid { .. })
        ));
    }
}

#[test]
fn capabilities() {
    let parse = |c: &VolumeCapability| Capability::parse(Some(c));
    let writer = parse(&capability(Mode::SingleNodeWriter, mount("xfs"))).unwrap();
    assert!(matches!(
        writer.access,
        Access::Mount {
            fs: Some(FileSystem::Xfs),
            ..
        }
    ));
    let block = Some(AccessType::Block(BlockVolume {}));
    assert!(
        parse(&capability(Mode::SingleNodeReaderOnly, block))
            .unwrap()
            .reader_only
    );
    assert!(
        parse(&capability(Mode::SingleNodeSingleWriter, mount("")))
            .unwrap()
            .single_target
    );
    for bad in [
        capability(Mode::MultiNodeMultiWriter, mount("ext4")),
        capability(Mode::Unknown, mount("ext4")),
        capability(Mode::SingleNodeWriter, mount("ntfs")),
        capability(Mode::SingleNodeWriter, None),
        VolumeCapability::default(),
        VolumeCapability {
            access_mode: Some(AccessMode { mode: 99 }),
            access_type: mount(""),
        },
    ] {
        assert!(parse(&bad).is_err(), "{bad:?}");
    }
    assert!(Capability::parse(None).is_err());
    assert!(Capability::parse_all(&[]).is_err());
}

#[test]
fn parameters() {
    let parameters: HashMap<_, _> = [
        ("pool", "a"),
        ("csi.storage.k8s.io/pvc/name", "claim"),
        ("csi.storage.k8s.io/snapshotter-secret-name", "s"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    assert_eq!(only_known(&parameters, &["pool"], "pool"), Ok(()));
    let error = only_known(&parameters, &[], "none").unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown parameters: pool; known are none"
    );
    let kept = orchestrator_names(&parameters);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept["csi.storage.k8s.io/pvc/name"], "claim");
}
