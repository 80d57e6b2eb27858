//! Schedules that profiles say.

use std::fs;

use stockpot_proto::stockpot::v1::{self as api, profiles_client::ProfilesClient};
use tonic::Code;

use super::{
    Managed, SMALL, Scene, Schedules, all, at, named, nightly, run_is_over, shown, until, volume,
};
use crate::lab;

const NAME: &str = "profile:gold";
const SAID: &str = "schedule: {datetime: '2026-01-31T02:00:00', occurence: Monthly}, retention: {number: 1, duration: 30},";

fn write(scene: &Scene, rest: &str) {
    let text = format!(
        "{{name: gold, snapshotProperties: {{{rest} topology: {{bucket: backups, prefix: a}}}}}}"
    );
    fs::write(scene.world.dir.path().join("profiles/gold.yaml"), text).unwrap();
}

/// The next look at the profiles.
fn look(scene: &Scene) {
    scene.pass(jiff::SignedDuration::from_secs(61));
}

async fn there(schedules: &mut Schedules) -> api::Schedule {
    until("the schedule", async || {
        let found = schedules.get_schedule(named(NAME)).await;
        found.ok().map(tonic::Response::into_inner)
    })
    .await
}

fn gone(managed: &mut Managed) {
    managed.block_on(async |_, _, schedules| {
        until("the schedule is gone", async || {
            let found = schedules.get_schedule(named(NAME)).await;
            found
                .is_err_and(|status| status.code() == Code::NotFound)
                .then_some(())
        })
        .await;
    });
}

#[test]
fn a_profile_acts_on_the_volumes_that_name_it() {
    let scene = Scene::new("2026-01-31T12:00:00Z", "{}");
    write(&scene, SAID);
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        for (name, metadata) in [
            ("a", Some(("profile", "gold"))),
            ("b", Some(("profileId", "gold"))),
            ("c", Some(("profile", "silver"))),
            ("d", None),
        ] {
            let mut request = lab::empty_volume(name, SMALL);
            let metadata = metadata.map(|(k, v)| (k.to_owned(), v.to_owned()));
            request.metadata = metadata.into_iter().collect();
            volume(&scene.world, client, &request).await;
        }
        let seen = there(schedules).await;
        assert_eq!(
            (seen.profile.as_str(), seen.occurrence.as_str()),
            ("gold", "Monthly")
        );
        let keep = seen.retention.unwrap();
        assert_eq!((keep.keep_last, keep.keep_days), (1, 30));
        // The last day of February.
        let due = at("2026-02-28T02:00:00Z");
        assert_eq!(seen.next_run_at.unwrap().seconds, due.as_second());
        scene.set(due);
        let seen = run_is_over(schedules, NAME, due).await;
        assert_eq!(seen.last_ok, 2, "{seen:?}");
        let mut volumes: Vec<String> = all(backups)
            .await
            .into_iter()
            .map(|b| b.volume_name)
            .collect();
        volumes.sort();
        assert_eq!(volumes, ["a", "b"]);
        // It is the profile's: only to be paused.
        let mut change = seen.clone();
        change.full_every = 3;
        let refused = schedules.update_schedule(change).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let refused = schedules.delete_schedule(named(NAME)).await.unwrap_err();
        assert!(
            refused.message().contains("change the profile"),
            "{refused}"
        );
    });
    managed.run.stop();
}

#[test]
fn a_schedule_is_there_as_long_as_its_profile_says_so() {
    let scene = Scene::new("2026-01-31T12:00:00Z", "{}");
    write(&scene, SAID);
    let mut managed = scene.start();
    managed.block_on(async |client, _, schedules| {
        let mut request = lab::empty_volume("a", SMALL);
        request.metadata = [("profile".to_owned(), "gold".to_owned())].into();
        volume(&scene.world, client, &request).await;
        let seen = there(schedules).await;
        schedules.run_schedule(named(NAME)).await.unwrap();
        run_is_over(schedules, NAME, at("2026-01-31T12:00:00Z")).await;
        let paused = api::Schedule {
            paused: true,
            ..seen
        };
        schedules.update_schedule(paused).await.unwrap();
    });
    // What cannot be read for a while is not forgotten: it stays paused.
    fs::write(
        scene.world.dir.path().join("profiles/gold.yaml"),
        "{name: gold",
    )
    .unwrap();
    look(&scene);
    managed.block_on(async |_, _, schedules| {
        until("it is said", async || {
            let seen = shown(schedules, NAME).await;
            (seen.paused && seen.last_error.contains("is no profile")).then_some(())
        })
        .await;
    });
    write(&scene, SAID);
    look(&scene);
    managed.block_on(async |_, _, schedules| {
        until("it is well again", async || {
            let seen = shown(schedules, NAME).await;
            (seen.paused && seen.last_error.is_empty()).then_some(())
        })
        .await;
    });
    write(&scene, "");
    look(&scene);
    gone(&mut managed);
    write(&scene, SAID);
    look(&scene);
    managed.block_on(async |_, backups, schedules| {
        there(schedules).await;
        // What an earlier schedule of that name made is not its own to give up.
        let apply = api::ApplyRetentionRequest {
            schedule: NAME.to_owned(),
            dry_run: false,
        };
        let judged = schedules
            .apply_retention(apply)
            .await
            .unwrap()
            .into_inner()
            .items;
        assert!(judged.is_empty(), "{judged:?}");
        assert_eq!(all(backups).await.len(), 1);
    });
    managed.run.stop();
}

#[test]
fn a_file_that_is_away_for_a_while_loses_nothing() {
    let scene = Scene::new("2026-01-31T12:00:00Z", "{}");
    write(&scene, SAID);
    let path = scene.world.dir.path().join("profiles/gold.yaml");
    let mut managed = scene.start();
    let judged = async |schedules: &mut Schedules| {
        let apply = api::ApplyRetentionRequest {
            schedule: NAME.to_owned(),
            dry_run: true,
        };
        let judged = schedules.apply_retention(apply).await.unwrap();
        judged.into_inner().items.len()
    };
    managed.block_on(async |client, _, schedules| {
        let mut request = lab::empty_volume("a", SMALL);
        request.metadata = [("profile".to_owned(), "gold".to_owned())].into();
        volume(&scene.world, client, &request).await;
        there(schedules).await;
        schedules.run_schedule(named(NAME)).await.unwrap();
        run_is_over(schedules, NAME, at("2026-01-31T12:00:00Z")).await;
        assert_eq!(judged(schedules).await, 1);
    });
    let rests = |managed: &mut Managed| {
        fs::remove_file(&path).unwrap();
        look(&scene);
        managed.block_on(async |_, _, schedules| {
            until("it rests", async || {
                let seen = shown(schedules, NAME).await;
                seen.last_error.contains("is gone").then_some(())
            })
            .await;
        });
    };
    rests(&mut managed);
    scene.pass(jiff::SignedDuration::from_hours(24));
    write(&scene, SAID);
    look(&scene);
    managed.block_on(async |_, _, schedules| {
        until("it is well again", async || {
            let seen = shown(schedules, NAME).await;
            seen.last_error.is_empty().then_some(())
        })
        .await;
        // What it made before is its own.
        assert_eq!(judged(schedules).await, 1);
    });
    rests(&mut managed);
    // The file that came back in between began the time anew.
    scene.pass(jiff::SignedDuration::from_hours(7 * 24));
    gone(&mut managed);
    write(&scene, SAID);
    look(&scene);
    managed.block_on(async |_, _, schedules| drop(there(schedules).await));
    rests(&mut managed);
    managed.block_on(async |_, _, schedules| {
        schedules.delete_schedule(named(NAME)).await.unwrap();
    });
    gone(&mut managed);
    managed.run.stop();
}

/// The clock stands still: nothing but the call itself wakes who looks at profiles.
#[test]
fn a_profile_that_is_made_by_call_has_its_schedule_soon() {
    let scene = Scene::new("2026-01-31T12:00:00Z", "{}");
    let mut managed = scene.start();
    let mut profiles = ProfilesClient::new(managed.run.channel());
    managed.block_on(async |_, _, schedules| {
        let document = r#"{"name": "gold", "snapshotProperties": {"topology": {"bucket": "backups", "prefix": "a"},
            "schedule": {"datetime": "2026-01-31T02:00:00", "occurence": "Monthly"}}}"#;
        let request = api::WriteProfileRequest {
            profile: String::new(),
            document: document.to_owned(),
            ..Default::default()
        };
        profiles.create_profile(request).await.unwrap();
        there(schedules).await;
        let request = api::DeleteProfileRequest {
            profile: "gold".to_owned(),
            force: false,
        };
        profiles.delete_profile(request).await.unwrap();
    });
    gone(&mut managed);
    managed.run.stop();
}

#[test]
fn a_profile_stays_while_a_schedule_names_it() {
    let scene = Scene::new("2026-03-01T12:00:00Z", "{}");
    let mut managed = scene.start();
    let mut profiles = ProfilesClient::new(managed.run.channel());
    managed.block_on(async |_, _, schedules| {
        let schedule = api::Schedule {
            profile: "offsite".to_owned(),
            ..nightly()
        };
        schedules.create_schedule(schedule).await.unwrap();
        let offsite = || api::DeleteProfileRequest {
            profile: "offsite".to_owned(),
            force: false,
        };
        let refused = profiles.delete_profile(offsite()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("nightly"), "{refused}");
        // What a schedule makes goes on to where it went.
        let with = |profile: &str, prefix: &str| api::WriteProfileRequest {
            profile: profile.to_owned(),
            document: format!(
                r#"{{"name": "made", "snapshotProperties": {{"topology": {{"bucket": "backups", "prefix": "{prefix}"}}}}}}"#
            ),
            ..Default::default()
        };
        profiles.create_profile(with("", "m")).await.unwrap();
        let mut schedule = nightly();
        (schedule.name, schedule.profile) = ("made-nightly".to_owned(), "made".to_owned());
        schedules.create_schedule(schedule).await.unwrap();
        let refused = profiles.update_profile(with("made", "n")).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("made-nightly"), "{refused}");
        profiles.update_profile(with("made", "m")).await.unwrap();
        schedules.delete_schedule(named("made-nightly")).await.unwrap();
        profiles.update_profile(with("made", "n")).await.unwrap();
        schedules.delete_schedule(named("nightly")).await.unwrap();
        profiles.delete_profile(offsite()).await.unwrap();
    });
    managed.run.stop();
}
