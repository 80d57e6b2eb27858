use super::*;

/// Recorded from LVM 2.03.16: a pool, a snapshot at rest, an active open volume, a classic snapshot.
const RECORDED: &str = r#"{ "report": [ {
    "vg": [ {"vg_name":"vg0", "vg_extent_size":"4194304", "vg_size":"8585740288", "vg_free":"1598029824", "vg_mda_size":"1044480", "vg_mda_free":"520192"} ],
    "pv": [ {"pv_name":"/dev/ubda"} ],
    "lv": [
      {"lv_uuid":"euiTmz", "lv_name":"pool", "lv_size":"536870912", "pool_lv":"", "lv_tags":"", "lv_active":"active", "lv_device_open":"open", "lv_suspended":"", "lv_permissions":"writeable", "lv_layout":"thin,pool", "lv_metadata_size":"4194304", "data_percent":"0.05", "metadata_percent":"10.94", "lv_kernel_major":"254", "lv_kernel_minor":"2", "origin":"", "origin_size":"", "lv_role":"private", "lv_snapshot_invalid":"unknown"},
      {"lv_uuid":"2V5Xxy", "lv_name":"stockpot.s.b", "lv_size":"104857600", "pool_lv":"pool", "lv_tags":"stockpot.created_at_us=17,stockpot.id=b,stockpot.kind=snapshot,stockpot.source=a", "lv_active":"", "lv_device_open":"unknown", "lv_suspended":"unknown", "lv_permissions":"read-only", "lv_layout":"thin,sparse", "lv_metadata_size":"", "data_percent":"", "metadata_percent":"", "lv_kernel_major":"-1", "lv_kernel_minor":"-1", "origin":"stockpot.v.a", "origin_size":"104857600", "lv_role":"public,snapshot,thinsnapshot", "lv_snapshot_invalid":"unknown"},
      {"lv_uuid":"a3zYqy", "lv_name":"theirs", "lv_size":"209715200", "pool_lv":"pool", "lv_tags":"", "lv_active":"active", "lv_device_open":"open", "lv_suspended":"", "lv_permissions":"writeable", "lv_layout":"thin,sparse", "lv_metadata_size":"", "data_percent":"1.00", "metadata_percent":"", "lv_kernel_major":"254", "lv_kernel_minor":"4", "origin":"", "origin_size":"", "lv_role":"public", "lv_snapshot_invalid":"unknown"},
      {"lv_uuid":"q1Zx0p", "lv_name":"stockpot.s.c", "lv_size":"8388608", "pool_lv":"", "lv_tags":"stockpot.exported=yes", "lv_active":"active", "lv_device_open":"", "lv_suspended":"", "lv_permissions":"read-only", "lv_layout":"linear", "lv_metadata_size":"", "data_percent":"0.20", "metadata_percent":"", "lv_kernel_major":"254", "lv_kernel_minor":"7", "origin":"data", "origin_size":"67108864", "lv_role":"public,snapshot,thicksnapshot", "lv_snapshot_invalid":""}
    ],
    "pvseg": [ {"pvseg_start":"0"} ],
    "seg": [ {"lv_uuid":"2V5Xxy", "zero":"zero", "thin_id":"2"}, {"lv_uuid":"euiTmz", "zero":"zero", "thin_id":""} ]
} ] }"#;

#[test]
fn a_recorded_report_is_understood() {
    let report = parse(RECORDED.as_bytes(), "vg0").unwrap().unwrap();
    assert_eq!(report.extent_bytes, 4 << 20);
    let [pool, snapshot, theirs, thick] = &report.lvs[..] else {
        panic!("{report:?}")
    };
    let thin = pool.thin_pool.as_ref().unwrap();
    assert!(thin.zeroes);
    assert_eq!(
        (thin.data_used, thin.metadata_used),
        (Some(Share(5)), Some(Share(1094)))
    );
    assert!(snapshot.read_only && !snapshot.active && !snapshot.open);
    assert_eq!((snapshot.device, snapshot.thin_id), (None, Some(2)));
    assert_eq!(pool.thin_id, None);
    assert!(matches!(
        snapshot.tags,
        Some(Tags::Snapshot {
            created_at_us: 17,
            ..
        })
    ));
    assert_eq!(theirs.tags, None);
    assert!(theirs.active && theirs.open && theirs.thin_pool.is_none());
    assert_eq!(theirs.device, Some((254, 4)));
    assert!(snapshot.cow.is_none() && theirs.cow.is_none());
    let cow = Cow {
        origin: "data".into(),
        content_bytes: 64 << 20,
        is_void: Some(false),
    };
    assert_eq!(thick.cow, Some(cow));
    assert_eq!(snapshot.origin.as_deref(), Some("stockpot.v.a"));
    assert_eq!(theirs.origin, None);
    report.metadata.admit("vg0").unwrap();
    assert!(thick.marks.exported && !thick.marks.creating);
}

#[test]
fn what_is_not_a_report_is_an_error() {
    assert_eq!(parse(br#"{"report":[]}"#, "vg0"), Ok(None));
    assert_eq!(parse(RECORDED.as_bytes(), "vg1"), Ok(None));
    for bad in [
        String::new(),
        "[]".into(),
        RECORDED.replace("4194304", "4m"),
        RECORDED.replace("4194304", "0"),
        RECORDED.replace("104857600", ""),
        RECORDED.replace("lv_tags", "tags"),
    ] {
        assert!(parse(bad.as_bytes(), "vg0").is_err(), "{bad}");
    }
}

#[test]
fn what_lvm_would_remove_as_well_is_known() {
    let report = parse(RECORDED.as_bytes(), "vg0").unwrap().unwrap();
    let lv = |name: &str, pool: Option<&str>, origin: Option<&str>, is_cow: bool| Lv {
        name: name.into(),
        pool: pool.map(Into::into),
        origin: origin.map(Into::into),
        cow: is_cow.then(|| Cow {
            origin: origin.unwrap().into(),
            content_bytes: 1,
            is_void: None,
        }),
        tags: None,
        thin_pool: None,
        ..report.lvs[0].clone()
    };
    let report = Report {
        lvs: vec![
            lv("thin", Some("pool"), None, false),
            lv("thin-snapshot", Some("pool"), Some("thin"), false),
            lv("classic-of-thin", None, Some("thin"), true),
            lv("thick", None, None, false),
            lv("reads-through", Some("pool"), Some("thick"), false),
            lv("other", None, None, false),
        ],
        ..report
    };
    for (name, along) in [
        ("thin", vec!["classic-of-thin"]),
        ("thick", vec!["reads-through"]),
        ("other", vec![]),
        ("thin-snapshot", vec![]),
    ] {
        let lv = report.lvs.iter().find(|lv| lv.name == name).unwrap();
        let found: Vec<_> = report.taken_along(lv).map(|lv| &*lv.name).collect();
        assert_eq!(found, along, "{name}");
        let refused = report.refuse_taking_along(lv, name);
        assert_eq!(refused.is_err(), !along.is_empty(), "{name}");
    }
}
