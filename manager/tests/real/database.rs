//! A database that is written to as fast as it can be, on a mounted volume that is backed up every few seconds.
//!
//! Each copy passes the database's own check and holds every transaction that was acknowledged before its cut began.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use stockpot_command::Command;
use stockpot_proto::stockpot::v1 as api;

use super::{Kind, World, attach, detach, run_async};
use crate::lab::{self, Client};

const SIZE: u64 = 128 << 20;
/// How long it is written to, unless `STOCKPOT_TEST_DATABASE_SECONDS` says otherwise.
const SECONDS: u64 = 20;
/// Entries that the database has at the most, so that it fits however long it is written to: 25 MiB.
const ENTRIES_MAX: i64 = 100_000;
/// Pause between two backups.
const PAUSE: Duration = Duration::from_secs(2);

/// For the child: where the database is, and where it notes what is acknowledged.
const DATABASE: &str = "STOCKPOT_TEST_DATABASE";
const NOTED: &str = "STOCKPOT_TEST_DATABASE_NOTED";

fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the caller and the parent tell by variables"
    )]
    std::env::var(name).ok()
}

/// Not a test by itself: what writes while the next ones back up. It is killed in the end.
#[test]
fn child_that_writes() {
    let (Some(database), Some(noted)) = (variable(DATABASE), variable(NOTED)) else {
        return;
    };
    let connection = Connection::open(database).unwrap();
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .unwrap();
    connection
        .pragma_update(None, "synchronous", "FULL")
        .unwrap();
    let table = "CREATE TABLE entries (number INTEGER PRIMARY KEY, filler BLOB NOT NULL) STRICT";
    connection.execute(table, []).unwrap();
    // In the transaction of each insertion.
    let oldest_goes = format!(
        "CREATE TRIGGER bounded AFTER INSERT ON entries
         BEGIN DELETE FROM entries WHERE number = new.number - {ENTRIES_MAX}; END"
    );
    connection.execute(&oldest_goes, []).unwrap();
    let noted = OpenOptions::new().write(true).open(noted).unwrap();
    for number in 1_u64.. {
        let add = "INSERT INTO entries (number, filler) VALUES (?1, randomblob(200))";
        connection
            .execute(add, [i64::try_from(number).unwrap()])
            .unwrap();
        noted.write_all_at(&number.to_le_bytes(), 0).unwrap();
    }
}

/// How many transactions were acknowledged.
fn acknowledged(noted: &File) -> u64 {
    let mut bytes = [0; 8];
    noted.read_exact_at(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

/// Restores a copy, and asks the database in it how many entries it was given.
async fn entries_in(client: &mut Client, dir: &Path, snapshot: &str) -> u64 {
    let request = lab::volume_from("back", snapshot, api::SourceCopy::Cloud);
    let back = lab::available_volume(client, &request).await.unwrap();
    let device = attach(client, &back.volume_id).await;
    let (at, copy) = (dir.join("back"), tempfile::tempdir_in(dir).unwrap());
    fs::create_dir_all(&at).unwrap();
    run_async(
        "mount",
        &["-o", "ro", device.to_str().unwrap(), at.to_str().unwrap()],
    )
    .await;
    for name in ["db", "db-wal"] {
        fs::copy(at.join(name), copy.path().join(name)).unwrap();
    }
    run_async("umount", &[at.to_str().unwrap()]).await;
    detach(client, &back.volume_id).await;
    lab::delete_volume(client, &back.volume_id).await.unwrap();
    let database = Connection::open(copy.path().join("db")).unwrap();
    let check: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let counted = "SELECT count(*), coalesce(max(number), 0) FROM entries";
    let (count, newest): (i64, i64) = database
        .query_row(counted, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(count, newest.min(ENTRIES_MAX), "one is missing");
    u64::try_from(newest).unwrap()
}

/// A backup, and how many transactions were acknowledged before it was asked for.
struct Copy {
    name: String,
    snapshot_id: String,
    acknowledged: u64,
}

/// The program that writes.
fn writer(database: &Path, noted: &Path, within: Duration) -> Command {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "real::database::child_that_writes",
            "--nocapture",
        ])
        .env(DATABASE, database)
        .env(NOTED, noted)
        .deadline(within)
}

/// How long its backups froze it, in words.
fn frozen(mut times_us: Vec<u64>) -> String {
    times_us.sort_unstable();
    let (count, median) = (times_us.len(), times_us[(times_us.len() - 1) / 2]);
    let worst = times_us[count - 1];
    format!("{count} backups; frozen: median {median} us, worst {worst} us")
}

#[expect(clippy::too_many_lines, reason = "one story")]
fn story(kind: Kind) {
    let seconds = variable("STOCKPOT_TEST_DATABASE_SECONDS");
    let seconds: u64 = seconds.map_or(SECONDS, |text| text.parse().unwrap());
    let world = World::of_size(kind, 2 << 30);
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    let dir = world.dir.path().to_owned();
    run.block_within(Duration::from_secs(600 + 10 * seconds), async {
        let request = lab::empty_volume("source", SIZE);
        let volume = lab::available_volume(&mut client, &request)
            .await
            .unwrap()
            .volume_id;
        let device = attach(&mut client, &volume).await;
        let at: PathBuf = dir.join("mnt");
        fs::create_dir(&at).unwrap();
        run_async("mkfs.ext4", &["-q", "-F", device.to_str().unwrap()]).await;
        run_async("mount", &[device.to_str().unwrap(), at.to_str().unwrap()]).await;
        let noted = dir.join("noted");
        fs::write(&noted, 0_u64.to_le_bytes()).unwrap();
        let within = Duration::from_secs(600 + 10 * seconds);
        let writer = tokio::spawn(writer(&at.join("db"), &noted, within).output());
        let noted = File::open(noted).unwrap();
        while acknowledged(&noted) == 0 {
            assert!(!writer.is_finished(), "{:?}", writer.await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut copies, mut frozen_us) = (Vec::new(), Vec::new());
        while Instant::now() < end || copies.len() < 2 {
            let name = format!("b{}", copies.len());
            let acknowledged = acknowledged(&noted);
            let done = lab::backed_up(&mut backups, &volume, &name, true).await;
            assert_eq!(done.consistency, "file-system", "{done:?}");
            frozen_us.push(done.frozen_us);
            copies.push(Copy {
                name,
                snapshot_id: done.snapshot_id,
                acknowledged,
            });
            tokio::time::sleep(PAUSE).await;
        }
        assert!(!writer.is_finished(), "{:?}", writer.await);
        writer.abort();
        let _ = writer.await;
        let all = acknowledged(&noted);
        println!(
            "{kind:?}: {seconds} s, {all} transactions, {}",
            frozen(frozen_us)
        );
        assert!(copies[copies.len() - 1].acknowledged > copies[0].acknowledged);
        for copy in &copies {
            lab::cleaned(&mut backups, &copy.name).await;
            let found = entries_in(&mut client, &dir, &copy.snapshot_id).await;
            assert!(
                (copy.acknowledged..=all + 1).contains(&found),
                "{}: {found} entries, {} acknowledged",
                copy.name,
                copy.acknowledged
            );
        }
        // The child is reaped behind.
        while super::Command::new("umount").arg(&at).run().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        detach(&mut client, &volume).await;
        for copy in &copies {
            backups
                .delete_backup(lab::backup(&copy.name))
                .await
                .unwrap();
        }
        lab::delete_volume(&mut client, &volume).await.unwrap();
    });
    run.stop();
    world.close();
}

#[test]
fn a_database_on_lvm_thin() {
    story(Kind::LvmThin);
}

#[test]
fn a_database_on_image_files() {
    story(Kind::File);
}
