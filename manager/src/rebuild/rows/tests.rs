use stockpot_driver::{Remembered, RememberedVolume, SnapshotInfo, VolumeInfo};

use super::*;

fn config() -> Config {
    let text = "{nodeName: node-1, pools: [{name: p, driver: file, directory: /srv/p}]}";
    serde_saphyr::from_str(text).unwrap()
}

fn remembered(id: &VolumeId, name: Option<&str>) -> RememberedVolume {
    RememberedVolume {
        name: name.map(str::to_owned),
        ..VolumeInfo {
            id: id.clone(),
            size_bytes: 4096,
        }
        .into()
    }
}

fn gathered(volumes: Vec<RememberedVolume>, cut_of: &[&VolumeId]) -> Gathered {
    let snapshots = cut_of.iter().map(|volume| {
        SnapshotInfo {
            id: ids::new_snapshot_id(None),
            volume_id: (*volume).clone(),
            size_bytes: 4096,
            created_at_us: 7,
        }
        .into()
    });
    let remembered = Remembered {
        volumes,
        snapshots: snapshots.collect(),
    };
    Gathered {
        pools: [("p".to_owned(), remembered)].into(),
        ..Gathered::default()
    }
}

#[test]
fn names_come_from_whoever_knows_them_and_are_unique() {
    let node = NodeShortId::of("node-1");
    let ids: Vec<VolumeId> = (0..4).map(|_| ids::new_volume_id(&node)).collect();
    let mut adopted = remembered(&ids[3], None);
    adopted.source = RememberedSource::Adopted("db".to_owned());
    let volumes = vec![
        remembered(&ids[0], Some("db")),
        remembered(&ids[1], Some("tagged")),
        remembered(&ids[2], None),
        adopted,
    ];
    let said = Said {
        name: "on record".to_owned(),
        metadata: [("a".to_owned(), "b".to_owned())].into(),
    };
    let old = vec![(ids[1].to_string(), said)];
    let rows = decide(
        &config(),
        gathered(volumes, &[&ids[0]]),
        old,
        Vec::new(),
        BTreeMap::new(),
    );
    let names: Vec<&str> = rows.volumes.iter().map(|row| row.name.as_str()).collect();
    let both = format!("db {}", ids[3]);
    assert_eq!(names, ["db", "on record", ids[2].as_str(), &both]);
    assert_eq!(rows.volumes[1].metadata.len(), 1);
    assert_eq!(rows.volumes[3].source, VolumeSource::Adopted);
    let [cut] = &rows.snapshots[..] else {
        panic!("{:?}", rows.snapshots)
    };
    assert_eq!(
        (cut.local, cut.cloud),
        (CopyState::Present, CopyState::None)
    );
    assert_eq!((cut.volume_name.as_str(), cut.cut_at_us), ("db", Some(7)));
    assert!(
        rows.remarks
            .iter()
            .any(|remark| remark.contains("2 volumes and snapshots have their ids"))
    );
}

#[test]
fn what_is_of_other_nodes_stays_theirs() {
    let other = ids::new_volume_id(&NodeShortId::of("node-2"));
    let through: VolumeId = "tmp-snap-x".parse().unwrap();
    let volumes = vec![
        remembered(&other, Some("theirs")),
        remembered(&through, None),
    ];
    let rows = decide(
        &config(),
        gathered(volumes, &[&other]),
        Vec::new(),
        Vec::new(),
        BTreeMap::new(),
    );
    assert!(rows.volumes.is_empty() && rows.snapshots.is_empty());
    let says = |part: &str| rows.remarks.iter().any(|remark| remark.contains(part));
    assert!(
        says("other nodes") && says("tmp-snap-x"),
        "{:?}",
        rows.remarks
    );
}

#[test]
fn what_is_there_in_part_is_said_and_not_put_on_record() {
    let node = NodeShortId::of("node-1");
    let (half, whole) = (ids::new_volume_id(&node), ids::new_volume_id(&node));
    let volumes = vec![remembered(&half, None), remembered(&whole, None)];
    let rows = decide(
        &config(),
        gathered(volumes, &[]),
        Vec::new(),
        Vec::new(),
        [(half.to_string(), "being made".to_owned())].into(),
    );
    assert_eq!(rows.volumes.len(), 1);
    assert_eq!(rows.volumes[0].id, whole);
    let said = |remark: &String| remark.contains(half.as_str()) && remark.contains("being made");
    assert!(rows.remarks.iter().any(said), "{:?}", rows.remarks);
}
