use super::*;

fn schedule(name: &str) -> ScheduleRow {
    ScheduleRow {
        name: name.to_owned(),
        spec: "{}".to_owned(),
        paused: false,
        seen_us: 10,
        error: None,
        created_at_us: 5,
    }
}

fn item(volume: &str) -> ItemRow {
    ItemRow {
        run_id: 0,
        volume_id: volume.parse().unwrap(),
        volume_name: volume.to_owned(),
        backup_name: format!("b-{volume}"),
        not_before_us: 20,
        give_up_at_us: 30,
        state: ItemState::Waiting,
        backup_id: None,
        message: None,
    }
}

fn run(schedule: &ScheduleRow, due_at_us: i64, volumes: &[&str]) -> NewRun {
    NewRun {
        schedule: schedule.clone(),
        due_at_us,
        is_due: true,
        full_every: 2,
        began_at_us: due_at_us + 1,
        items: volumes.iter().map(|volume| item(volume)).collect(),
    }
}

/// A run of the schedule `s`, or its newest.
async fn told(catalog: &Catalog, run_id: Option<i64>) -> (RunRow, Vec<ItemRow>) {
    let state = catalog.schedule_state("s", run_id).await.unwrap();
    state.unwrap().run.unwrap()
}

#[tokio::test]
async fn a_due_time_is_dealt_with_once() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let before = schedule("s");
    catalog.insert_schedule(before.clone()).await.unwrap();
    let taken = catalog.insert_schedule(before.clone()).await.unwrap_err();
    assert!(taken.is_taken());
    assert!(
        catalog
            .begin_run(run(&before, 20, &["vol-1", "vol-2"]))
            .await
            .unwrap()
            .is_some()
    );
    // Whoever decided on what was before does not get it again.
    assert!(
        catalog
            .begin_run(run(&before, 20, &["vol-1"]))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        catalog
            .begin_run(run(&before, 25, &["vol-1"]))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        !catalog
            .update_schedule(before.clone(), before.clone())
            .await
            .unwrap()
    );
    let after = catalog.schedule("s").await.unwrap().unwrap();
    assert_eq!(after.seen_us, 20);
    let open = catalog.open_items().await.unwrap();
    assert_eq!(open.len(), 2);
    assert!(open[0].0.is_full && open[0].0.due_at_us == 20);

    // The next run takes the place of what waits, and not of what has begun.
    let mut begun = open[0].1.clone();
    (begun.state, begun.backup_id) = (ItemState::Begun, Some("bak-1".to_owned()));
    catalog.update_item(begun.clone()).await.unwrap();
    assert!(
        catalog
            .begin_run(run(&after, 40, &["vol-1", "vol-2"]))
            .await
            .unwrap()
            .is_some()
    );
    let (_, first) = told(&catalog, Some(begun.run_id)).await;
    assert_eq!(first[0], begun);
    assert_eq!(first[1].state, ItemState::Skipped);
    let (last, _) = told(&catalog, None).await;
    assert!(!last.is_full);

    // Back in time: what has been is not done again.
    let mut back = catalog.schedule("s").await.unwrap().unwrap();
    let now = back.clone();
    back.seen_us = 10;
    assert!(catalog.update_schedule(now, back.clone()).await.unwrap());
    let again = catalog.begin_run(run(&back, 20, &["vol-1"])).await.unwrap();
    assert_eq!(again, None);
    let first_run = catalog.run_due_at("s", 20).await.unwrap();
    assert_eq!(first_run, Some(begun.run_id));
    assert_eq!(catalog.schedule("s").await.unwrap().unwrap().seen_us, 20);
}

#[tokio::test]
async fn runs_end_and_old_ones_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.insert_schedule(schedule("s")).await.unwrap();
    for due in 0..5 {
        let now = catalog.schedule("s").await.unwrap().unwrap();
        assert!(
            catalog
                .begin_run(run(&now, 20 + due, &["vol-1"]))
                .await
                .unwrap()
                .is_some()
        );
        assert!(catalog.runs_to_end().await.unwrap().is_empty());
        let (_, mut open) = catalog.open_items().await.unwrap().pop().unwrap();
        open.state = ItemState::Done;
        catalog.update_item(open).await.unwrap();
        for mut ended in catalog.runs_to_end().await.unwrap() {
            ended.error = Some("said".to_owned());
            catalog.end_run(ended, 99, 2).await.unwrap();
        }
        assert!(catalog.runs_to_end().await.unwrap().is_empty());
    }
    let (last, _) = told(&catalog, None).await;
    assert_eq!(last.ended_at_us, Some(99));
    assert_eq!(last.error.as_deref(), Some("said"));
    let count = |catalog: Catalog| async move {
        catalog
            .call(|connection| {
                let sql = "SELECT (SELECT count(*) FROM schedule_runs), (SELECT count(*) FROM schedule_items)";
                Ok(connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?)
            })
            .await
            .unwrap()
    };
    assert_eq!(count(catalog.clone()).await, (2, 2));
    catalog.remove_schedule("s").await.unwrap();
    assert_eq!(count(catalog.clone()).await, (0, 0));
    assert!(catalog.schedules().await.unwrap().is_empty());
}

/// Runs begin, end and are forgotten with their schedule, again and again.
async fn runs_come_and_go(catalog: Catalog) {
    for round in 0..300 {
        if round % 5 == 4 {
            catalog.remove_schedule("s").await.unwrap();
            catalog.insert_schedule(schedule("s")).await.unwrap();
        }
        let now = catalog.schedule("s").await.unwrap().unwrap();
        let begun = catalog.begin_run(run(&now, 20 + round, &["vol-1"])).await;
        assert!(begun.unwrap().is_some());
        let (run, mut item) = catalog.open_items().await.unwrap().pop().unwrap();
        item.state = ItemState::Done;
        catalog.update_item(item).await.unwrap();
        catalog.end_run(run, 99, 2).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_schedule_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.insert_schedule(schedule("s")).await.unwrap();
    let work = tokio::spawn(runs_come_and_go(catalog.clone()));
    while !work.is_finished() {
        let one = catalog.schedule_state("s", None).await.unwrap();
        let all = catalog.schedule_states().await.unwrap();
        for state in one.into_iter().chain(all) {
            let Some((run, items)) = state.run else {
                assert_eq!(state.schedule.seen_us, schedule("s").seen_us);
                continue;
            };
            assert_eq!(state.schedule.seen_us, run.due_at_us);
            assert_eq!(items.len(), 1);
            let is_done = items[0].state == ItemState::Done;
            assert!(is_done || run.ended_at_us.is_none(), "{run:?}");
        }
    }
    work.await.unwrap();
}
