//! The commands of a profile around the cut, whatever becomes of the cut and of the manager.

use std::{fs, path::Path, time::Duration};

use rusqlite::Connection;
use stockpot_command::{Command, Process};
use stockpot_proto::stockpot::v1::{self as api, BackupStatus};
use tonic::Code;

use crate::{
    lab::{self, Client, Run},
    world::{World, filled_volume},
};

/// A profile whose commands write down that they ran; `pre` ends with this exit code.
fn write_profile(world: &World, code: u8, more: &str) {
    let mark = |word: &str, end: &str| {
        let marks = world.dir.path().join("marks");
        format!(
            "[/bin/sh, -c, 'echo {word} $STOCKPOT_VOLUME_NAME >> {}; echo {word} said; {end}']",
            marks.display()
        )
    };
    let (pre, post) = (mark("pre", &format!("exit {code}")), mark("post", "exit 0"));
    write_commands(world, &format!("pre: {pre}, post: [{post}]{more}"));
}

/// A profile with these commands, in YAML.
fn write_commands(world: &World, commands: &str) {
    let text = format!(
        "{{name: offsite, snapshotProperties: {{topology: {{bucket: backups, prefix: a}}, quiesce: {{{commands}}}}}}}"
    );
    fs::write(world.dir.path().join("profiles/offsite.yaml"), text).unwrap();
}

/// What ran since this was asked last.
fn marks(dir: &Path) -> String {
    let path = dir.join("marks");
    let found = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    found
}

/// Both commands have run, and nothing else.
fn assert_both_ran(world: &World) {
    assert_eq!(marks(world.dir.path()), "pre source\npost source\n");
}

/// A manager in which a backup of an attached volume stands at its cut.
fn held_at_the_cut(world: &World) -> Run {
    let (run, _client, volume) = begin(world);
    let mut backups = run.backups();
    world.faults.hold_call("create_snapshot");
    run.block_on(async {
        tokio::spawn(async move { lab::back_up(&mut backups, &volume, "b", true).await });
        assert_eq!(world.faults.happened().await, "create_snapshot");
    });
    run
}

/// A manager and a volume that is attached.
fn begin(world: &World) -> (Run, Client, String) {
    let run = world.start();
    let mut client = run.client();
    let volume = run.block_on(async {
        let volume_id = filled_volume(world, &mut client).await.volume_id;
        let request = api::AttachVolumeRequest {
            volume_id: volume_id.clone(),
            read_only: false,
            as_attached: false,
        };
        client.attach_volume(request).await.unwrap();
        volume_id
    });
    (run, client, volume)
}

#[test]
fn commands_run_around_every_cut_and_tell_what_they_said() {
    let world = World::new();
    write_profile(&world, 0, "");
    let (run, mut client, volume) = begin(&world);
    let mut backups = run.backups();
    run.block_on(async {
        let done = lab::backed_up(&mut backups, &volume, "b", true).await;
        assert_both_ran(&world);
        assert_eq!(
            (done.consistency.as_str(), done.frozen_us),
            ("crash", 0),
            "{done:?}"
        );
        for said in ["pre said", "post said", "no block device"] {
            assert!(done.consistency_text.contains(said), "{done:?}");
        }
        lab::cut(&mut client, &lab::snapshot_of(&volume, "s", "offsite")).await;
        assert_both_ran(&world);
        // Without a profile there is nobody to ask.
        lab::cut(&mut client, &lab::snapshot_of(&volume, "local", "")).await;
        assert_eq!(marks(world.dir.path()), "");
    });
    run.stop();
}

#[test]
fn what_was_paused_goes_on_when_the_cut_fails() {
    let world = World::new();
    write_profile(&world, 0, "");
    let (run, mut client, volume) = begin(&world);
    let mut backups = run.backups();
    run.block_on(async {
        world.faults.break_call("create_snapshot");
        lab::back_up(&mut backups, &volume, "b", true)
            .await
            .unwrap_err();
        assert_both_ran(&world);
        let request = lab::snapshot_of(&volume, "s", "offsite");
        client.create_snapshot(request).await.unwrap_err();
        assert_both_ran(&world);
    });
    run.stop();
    assert!(world.storage.leftovers().snapshots.is_empty());
}

#[test]
fn a_command_that_fails_keeps_from_cutting_unless_told_otherwise() {
    let world = World::new();
    write_profile(&world, 7, "");
    let (run, mut client, volume) = begin(&world);
    let mut backups = run.backups();
    run.block_on(async {
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let refused = client.create_snapshot(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("exit code 7"), "{refused}");
        assert_both_ran(&world);
        assert!(lab::list(&mut client).await.is_empty());
        let refused = lab::back_up(&mut backups, &volume, "b", true)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let failed = lab::cleaned(&mut backups, "b").await;
        assert_eq!(failed.status(), BackupStatus::Error, "{failed:?}");
        assert!(world.storage.leftovers().snapshots.is_empty());
        marks(world.dir.path());

        write_profile(&world, 7, ", onFailure: continue");
        let done = lab::backed_up(&mut backups, &volume, "c", true).await;
        assert!(done.consistency_text.contains("exit code 7"), "{done:?}");
        assert_eq!(done.consistency, "crash");
        assert_both_ran(&world);
    });
    run.stop();
}

/// Killed in the middle of the cut: the next start runs what comes after, also where the profile is gone.
#[test]
fn killed_between_the_commands() {
    let world = World::new();
    write_profile(&world, 0, "");
    let run = held_at_the_cut(&world);
    assert_eq!(marks(world.dir.path()), "pre source\n");
    run.kill();
    world.faults.clear();
    fs::remove_file(world.dir.path().join("profiles/offsite.yaml")).unwrap();
    let run = world.start();
    let mut found = String::new();
    run.block_on(async {
        while found.is_empty() {
            found = marks(world.dir.path());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    assert_eq!(found, "post source\n");
    run.stop();
    assert!(world.storage.leftovers().snapshots.is_empty());
    // Only once.
    world.start().stop();
    assert_eq!(marks(world.dir.path()), "");
}

/// Killed in the middle of the first command, which goes on: what it pauses after the last one has run would stay so.
#[test]
fn killed_in_the_first_command() {
    let world = World::new();
    let (marks_at, paused) = (
        world.dir.path().join("marks"),
        world.dir.path().join("paused"),
    );
    let commands = format!(
        "pre: [/bin/sh, -c, 'echo $$ >> {0}; sleep 60'], post: [/bin/sh, -c, 'rm -f {1}; echo post >> {0}']",
        marks_at.display(),
        paused.display()
    );
    write_commands(&world, &commands);
    let (run, _client, volume) = begin(&world);
    let mut backups = run.backups();
    let state = Connection::open(world.dir.path().join("state/catalog.sqlite")).unwrap();
    let left = run.block_on(async {
        tokio::spawn(async move { lab::back_up(&mut backups, &volume, "b", true).await });
        let mut pid = String::new();
        while !pid.ends_with('\n') {
            tokio::time::sleep(Duration::from_millis(5)).await;
            pid = fs::read_to_string(&marks_at).unwrap_or_default();
        }
        let sql = "SELECT undo ->> 'running' FROM quiesces";
        let running: String = state.query_row(sql, [], |row| row.get(0)).unwrap();
        let running: Process = running.parse().unwrap();
        assert_eq!(running, Process::of(pid.trim().parse().unwrap()).unwrap());
        // The runtime of this test takes that one along, which a dead daemon does not: this one stands in for it.
        let script = format!("echo $$; sleep 60; touch {}", paused.display());
        let left = Command::new("/bin/sh").args(["-c", &script]).converse();
        let mut left = left.unwrap();
        let pid = left.hear().await.unwrap().unwrap();
        Process::of(pid.parse().unwrap()).unwrap()
    });
    run.kill();
    let sql = "UPDATE quiesces SET undo = json_set(undo, '$.running', ?1)";
    assert_eq!(state.execute(sql, [left.to_string()]).unwrap(), 1);
    drop(state);
    marks(world.dir.path());
    assert!(left.is_running());
    let run = world.start();
    run.block_on(async {
        while marks(world.dir.path()).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!left.is_running());
        assert!(!paused.exists());
    });
    run.stop();
}

/// What resumes a program may need a second try, and is on record until it went well.
#[test]
fn a_command_that_fails_after_a_start_is_tried_again() {
    let world = World::new();
    let (marks_path, ready) = (
        world.dir.path().join("marks"),
        world.dir.path().join("ready"),
    );
    let commands = format!(
        "pre: [/bin/true], post: [[/bin/sh, -c, 'echo post >> {marks}; test -e {ready}'],
           [/bin/sh, -c, 'echo other >> {marks}']]",
        marks = marks_path.display(),
        ready = ready.display()
    );
    write_commands(&world, &commands);
    held_at_the_cut(&world).kill();
    world.faults.clear();
    let ran = |lines: usize| {
        let begun = std::time::Instant::now();
        loop {
            let found = fs::read_to_string(&marks_path).unwrap_or_default();
            if found.lines().count() >= lines {
                return found;
            }
            assert!(begun.elapsed() < lab::PATIENCE, "only {found:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    let run = world.start();
    assert!(ran(2).starts_with("post\nother\n"));
    run.stop();
    // A start goes on with it, and the one after that has nothing to do.
    fs::remove_file(&marks_path).unwrap();
    let run = world.start();
    ran(2);
    fs::write(&ready, "").unwrap();
    let found = ran(3);
    assert!(
        found.starts_with("post\nother\npost\n") && !found.ends_with("other\n"),
        "{found}"
    );
    run.stop();
    fs::remove_file(&marks_path).unwrap();
    world.start().stop();
    assert!(!marks_path.exists());
}

/// A cut that was not answered is not forgotten because the next try came to nothing.
#[test]
fn a_cut_that_may_still_be_made_stays_on_record() {
    let world = World::new();
    let (run, mut client, volume) = begin(&world);
    run.block_on(async {
        let request = lab::snapshot_of(&volume, "asked", "offsite");
        world.storage.leave_cuts_unanswered(2);
        client.create_snapshot(request.clone()).await.unwrap_err();
        write_profile(&world, 7, "");
        // The storage is silent still: what was removed now it would make after that, on no record.
        let refused = client.create_snapshot(request.clone()).await.unwrap_err();
        assert!(refused.message().contains("exit code 7"), "{refused}");
        assert!(world.storage.leftovers().snapshots.is_empty());
        // Now it answers, and nothing is left of it.
        let refused = client.create_snapshot(request).await.unwrap_err();
        assert!(refused.message().contains("exit code 7"), "{refused}");
        assert!(lab::list(&mut client).await.is_empty());
    });
    run.stop();
    assert!(world.storage.leftovers().snapshots.is_empty());
}

#[test]
fn a_volume_that_nobody_uses_is_said_to_be_so() {
    let world = World::new();
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let done = lab::backed_up(&mut backups, &volume, "b", false).await;
        assert_eq!(
            (done.consistency.as_str(), done.frozen_us),
            ("unused", 0),
            "{done:?}"
        );
        let request = api::ListBackupsRequest {
            volume,
            ..Default::default()
        };
        let listed = backups.list_backups(request).await.unwrap().into_inner();
        assert_eq!(listed.freeze_times, None);
    });
    run.stop();
}

/// Nobody knows when the storage cut what it did not answer.
#[test]
fn what_an_earlier_try_may_have_cut_is_not_called_better_than_it_is() {
    let world = World::new();
    let (run, mut client, volume) = begin(&world);
    let mut backups = run.backups();
    run.block_on(async {
        world.storage.leave_cuts_unanswered(1);
        let late = lab::back_up(&mut backups, &volume, "b", true).await;
        late.unwrap_err();
        let done = lab::cleaned(&mut backups, "b").await;
        assert_eq!(done.consistency, "crash", "{done:?}");
        assert!(done.consistency_text.contains("earlier try"), "{done:?}");
        // Whoever wants no copy rather than that one gets none, and one that is begun anew after that.
        write_profile(&world, 0, "");
        let request = lab::snapshot_of(&volume, "asked", "offsite");
        world.storage.leave_cuts_unanswered(1);
        client.create_snapshot(request.clone()).await.unwrap_err();
        let refused = client.create_snapshot(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("earlier try"), "{refused}");
        lab::cut(&mut client, &request).await;
    });
    run.stop();
}

#[test]
fn storage_that_cannot_say_who_uses_a_volume_cuts_it_all_the_same() {
    let world = World::new();
    let (run, mut client, volume) = begin(&world);
    let mut backups = run.backups();
    world.storage.let_users_be_unseen();
    run.block_on(async {
        let done = lab::backed_up(&mut backups, &volume, "b", true).await;
        assert_eq!(done.consistency, "crash", "{done:?}");
        assert!(done.consistency_text.contains("cannot be seen"), "{done:?}");
        let volume_id = volume.clone();
        let detach = api::DetachVolumeRequest { volume_id };
        client.detach_volume(detach).await.unwrap();
        lab::cut(&mut client, &lab::snapshot_of(&volume, "s", "")).await;
    });
    run.stop();
}
