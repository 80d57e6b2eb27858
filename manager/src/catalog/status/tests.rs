//! Every pair of statuses, by every way in which one can be written.

use std::collections::BTreeSet;

use super::*;
use crate::catalog::{Catalog, schema};

const VOLUMES: [VolumeStatus; 8] = [
    Creating, Restoring, Available, InUse, BackingUp, Extending, Deleting, Error,
];
const COPIES: [CopyState; 5] = [
    CopyState::None,
    CopyState::Pending,
    CopyState::Present,
    CopyState::Failed,
    CopyState::Deleted,
];
const BACKUPS: [BackupStatus; 6] = [
    BackupStatus::Creating,
    BackupStatus::Available,
    BackupStatus::Cancelling,
    BackupStatus::Cancelled,
    BackupStatus::Error,
    BackupStatus::Deleted,
];

/// Whatever SQL writes a status, it is one of the table's or it is not written.
fn nothing_goes_past<S: Stateful>(row: &str, table: &str, column: &str, statuses: &[S]) {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection).unwrap();
    connection.execute_batch(row).unwrap();
    let set = |connection: &Connection, to: S| {
        connection.execute(&format!("UPDATE {table} SET {column} = ?1"), [to.word()])
    };
    let mut legal = 0;
    for &from in statuses {
        for &to in statuses {
            // As by hand: the guard is not there yet.
            let trigger = format!("DROP TRIGGER IF EXISTS temp.{table}_{column}");
            connection.execute_batch(&trigger).unwrap();
            set(&connection, from).unwrap();
            for each in [
                "volumes_status",
                "snapshots_local_state",
                "snapshots_cloud_state",
                "backups_status",
            ] {
                let drop = format!("DROP TRIGGER IF EXISTS temp.{each}");
                connection.execute_batch(&drop).unwrap();
            }
            guard(&connection).unwrap();
            let expected = from == to || from.may_become(to);
            legal += u32::from(expected);
            let pair = format!("{table}.{column}: {} > {}", from.word(), to.word());
            assert_eq!(set(&connection, to).is_ok(), expected, "{pair}");
            let sql = format!("SELECT {column} FROM {table}");
            let now: String = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(
                now,
                if expected { to.word() } else { from.word() },
                "{pair}"
            );
            assert_eq!(
                check(table, from, to).is_ok(),
                from.may_become(to),
                "{pair}"
            );
        }
    }
    let all = u32::try_from(statuses.len() * statuses.len()).unwrap();
    assert!(legal < all, "{table}: something is refused");
}

#[test]
fn no_sql_goes_past_the_tables() {
    let volume = "INSERT INTO volumes (id, name, size_bytes, pool, status, source_kind, metadata, created_at_us)
                  VALUES ('vol-1', 'v', 1, 'p', 'creating', 'empty', '{}', 1)";
    nothing_goes_past(volume, "volumes", "status", &VOLUMES);
    let snapshot = "INSERT INTO snapshots (id, name, volume_id, volume_name, pool, profile, local_state, cloud_state,
                           metadata, created_at_us)
                    VALUES ('snap-1', 'n', 'vol-1', 'v', 'p', '', 'pending', 'pending', '{}', 1)";
    for column in ["local_state", "cloud_state"] {
        nothing_goes_past(snapshot, "snapshots", column, &COPIES);
    }
    let backup = "INSERT INTO backups (id, name, volume_id, volume_name, snapshot_id, profile, source, status, phase,
                         metadata, created_at_us)
                  VALUES ('bak-1', 'b', 'vol-1', 'v', 'snap-1', 'p', 'volume', 'creating', 'starting', '{}', 1)";
    nothing_goes_past(backup, "backups", "status", &BACKUPS);
}

/// The catalog's own call moves a volume as the table says, and names both statuses where it does not.
#[tokio::test]
async fn volumes_move_as_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let mut number = 0;
    for from in VOLUMES {
        for to in VOLUMES {
            number += 1;
            let row = crate::catalog::volumes::tests::volume(&format!("v{number}"), from);
            catalog.insert_volume(row.clone()).await.unwrap();
            let moved = catalog.move_volume(&row.id, from, to, None).await;
            let now = catalog.volume(&row.id).await.unwrap().unwrap();
            if from.may_become(to) {
                assert!(moved.unwrap(), "{from} > {to}");
                assert_eq!(now.status, to);
                // What is under way knows what it came from.
                let before = (!to.is_final()).then_some(from);
                assert_eq!(now.previous_status, before, "{from} > {to}");
            } else {
                let text = moved.unwrap_err().to_string();
                assert!(
                    text.contains(from.as_str()) && text.contains("it cannot"),
                    "{text}"
                );
                assert_eq!(now.status, from);
            }
        }
    }
}

/// Whatever is under way ends: from each status a way leads to one that stays, and what was asked for never leads out
/// of an operation that has not ended, but to the removal.
#[test]
fn nothing_is_under_way_for_ever() {
    for from in VOLUMES {
        let mut reached = BTreeSet::from([from.as_str()]);
        let mut todo = vec![from];
        while let Some(at) = todo.pop() {
            for to in VOLUMES {
                if at.may_become(to) && reached.insert(to.as_str()) {
                    todo.push(to);
                }
            }
        }
        assert!(
            VOLUMES
                .iter()
                .any(|to| to.is_final() && reached.contains(to.as_str()))
        );
        for to in VOLUMES {
            let interrupts = matches!(from, Creating | Restoring) && to == Deleting;
            assert!(
                from.is_final() || !from.may_be_asked(to) || interrupts,
                "{from} > {to}"
            );
        }
    }
}
