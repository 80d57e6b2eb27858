//! What a configuration may say.

use super::*;

const WHOLE: &str = "
nodeName: worker-1
stateDir: /var/lib/x
socket: /run/x.sock
profilesDir: /etc/x/profiles
credentialsDir: /etc/x
defaultPool: fast
pools:
  - {name: fast, driver: lvm-thin, volumeGroup: vg0, thinPool: pool0, poolSizeBytes: 1073741824,
     limits: {overProvisioningRatio: 3, makeRoomPercent: 70}}
  - {name: plain, driver: lvm-thick, volumeGroup: vg1, snapshotPercent: 30}
  - {name: images, driver: file, directory: /srv/images, allowCopy: true}
host: {ip: 192.0.2.1}
transfers: {uploadsMax: 1, giveUpAfterSeconds: 3600, partsInFlight: 8, zstdLevel: 3, keepBase: false, guardSharePpm: 5000, repackBelowPercent: 0, repackGainBytes: 65536}
poolGuardSeconds: 5
shutdownGraceSeconds: 5
";

const LONG: &str = "/run/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789/x.sock";

fn parse(text: &str) -> Result<Config, String> {
    let config: Config = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn a_whole_configuration() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.default_pool(), "fast");
    let settings = config.transfers.upload_settings();
    assert_eq!(settings.parts_in_flight, 8);
    assert_eq!(
        (settings.guard_share_ppm, settings.repack_below_percent),
        (5000, 0)
    );
    assert_eq!(settings.guard_chunks_min, 16);
    assert_eq!(settings.repack_gain_bytes_min, 65536);
    assert!(matches!(
        &config.pools[0],
        PoolConfig::LvmThin {
            pool_size_bytes: Some(1_073_741_824),
            limits: ThinLimits {
                over_provisioning_ratio: 3,
                data_percent: 95,
                ..
            },
            ..
        }
    ));
    assert!(matches!(
        &config.pools[1],
        PoolConfig::LvmThick {
            snapshot_percent: Some(30),
            extend_at_percent: None,
            ..
        }
    ));
    let least = "{nodeName: n, pools: [{name: p, driver: file, directory: /d}]}";
    assert_eq!(parse(least).unwrap().default_pool(), "p");
}

#[test]
fn mistakes_are_named() {
    for (change, with, named) in [
        ("nodeName: worker-1", "nodeName: ''", "nodeName"),
        ("socket: /run", "socket: run", "socket"),
        ("defaultPool: fast", "defaultPool: slow", "slow"),
        ("name: images", "name: fast", "twice"),
        ("/srv/images", "images", "images"),
        ("volumeGroup", "volumegroup", "volumegroup"),
        ("uploadsMax: 1", "uploadsMax: 0", "uploadsMax"),
        ("partsInFlight: 8", "partsInFlight: 800", "partsInFlight"),
        (
            "guardSharePpm: 5000",
            "guardChunksMin: 0",
            "transfers.guardChunksMin",
        ),
        ("poolGuardSeconds: 5", "poolGuardSeconds: 60", "1 to 30"),
        ("makeRoomPercent", "makeroom", "makeroom"),
        ("stateDir", "statedir", ", csi"),
        ("/run/x.sock", LONG, "socket"),
    ] {
        let error = parse(&WHOLE.replace(change, with)).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}

#[test]
fn pauses_grow_to_a_limit() {
    let config = TransferConfig::default();
    let pauses: Vec<u64> = (2..12).map(|n| config.pause_before(n).as_secs()).collect();
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]);
}
