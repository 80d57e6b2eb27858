//! Pools that cannot work, or not together.

use super::*;

fn parse(text: &str) -> Result<(), String> {
    let pools: Vec<PoolConfig> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    check(&pools).map_err(|error| error.to_string())
}

#[test]
fn what_a_start_would_refuse_is_refused_with_pool_and_key() {
    for (pools, words) in [
        (
            "[{name: p, driver: lvm-thin, volumeGroup: vg0, thinPool: t, poolSizeBytes: 0}]",
            "pools.p.poolSizeBytes: 0",
        ),
        (
            "[{name: p, driver: lvm-thin, volumeGroup: vg0, thinPool: t, limits: {dataPercent: 200}}]",
            "pools.p.limits.dataPercent: 200 is not from 1 to 100",
        ),
        (
            "[{name: p, driver: lvm-thin, volumeGroup: vg0, thinPool: t, limits: {metadataPercent: 0}}]",
            "pools.p.limits.metadataPercent",
        ),
        (
            "[{name: p, driver: lvm-thin, volumeGroup: vg0, thinPool: t, limits: {overProvisioningRatio: 0}}]",
            "pools.p.limits.overProvisioningRatio",
        ),
        (
            "[{name: p, driver: lvm-thin, volumeGroup: --force, thinPool: t}]",
            "pools.p: \"--force\" cannot be the name of a volume group",
        ),
        (
            "[{name: p, driver: lvm-thick, volumeGroup: vg0, snapshotPercent: 0}]",
            "pools.p.snapshotPercent",
        ),
        (
            "[{name: p, driver: lvm-thick, volumeGroup: vg0, snapshotLeastBytes: 1}]",
            "pools.p.snapshotLeastBytes: 1 is too little",
        ),
        (
            "[{name: p, driver: lvm-thick, volumeGroup: vg0, thinPool: t}]",
            "pool p: `thinPool` is not for driver lvm-thick",
        ),
        (
            "[{name: p, driver: lvm-thin, volumeGroup: vg0}]",
            "pool p: `thinPool` is missing",
        ),
        (
            "[{name: p, driver: remote, node: s}]",
            "pool p: `address` is missing",
        ),
        ("[{name: p, driver: lvm}]", "lvm-thin"),
    ] {
        let error = parse(pools).unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn no_two_pools_share_a_place() {
    for pools in [
        "[{name: a, driver: lvm-thin, volumeGroup: vg0, thinPool: t},
          {name: b, driver: lvm-thin, volumeGroup: vg0, thinPool: t}]",
        "[{name: a, driver: lvm-thick, volumeGroup: vg0}, {name: b, driver: lvm-thick, volumeGroup: vg0}]",
        "[{name: a, driver: file, directory: /srv/x}, {name: b, driver: file, directory: /srv//x/}]",
        "[{name: a, driver: remote, node: s, address: 's:1', pool: p},
          {name: b, driver: remote, node: s, address: 's:1', pool: p}]",
    ] {
        let error = parse(pools).unwrap_err();
        assert!(
            error.starts_with("pools.b: is on") && error.contains("pool a"),
            "{error}"
        );
    }
    parse(
        "[{name: a, driver: lvm-thin, volumeGroup: vg0, thinPool: t},
          {name: b, driver: lvm-thin, volumeGroup: vg0, thinPool: u},
          {name: c, driver: lvm-thick, volumeGroup: vg0},
          {name: d, driver: file, directory: /srv/x}]",
    )
    .unwrap();
}
