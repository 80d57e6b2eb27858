use std::fs;

use super::*;
use crate::fakes::{FakeStores, Faults};

fn clouds(dir: &std::path::Path, stores: Arc<FakeStores>) -> Clouds {
    let profiles = dir.join("profiles");
    fs::create_dir(&profiles).unwrap();
    let text = "{name: p, snapshotProperties: {topology: {bucket: backups}}}";
    fs::write(profiles.join("p.yaml"), text).unwrap();
    let profiles = Arc::new(Profiles::new(&profiles, dir));
    let catalog = Catalog::open(&dir.join("state")).unwrap();
    Clouds::new(profiles, stores, catalog, TaskTracker::new())
}

/// Who waits gives up; the repository is made all the same, and what its endpoint was tried with is gone.
#[tokio::test]
async fn a_repository_on_a_slow_endpoint_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let stores = FakeStores::new(Arc::new(Faults::default()));
    stores.set_probe_takes(Duration::from_millis(400));
    let mut clouds = clouds(dir.path(), stores.clone());
    clouds.answer_within = Duration::from_millis(150);
    let profile = clouds.profile("p").await.unwrap();
    let mut refused = 0;
    let repository = loop {
        match clouds.for_writing(&profile).await {
            Ok(repository) => break repository,
            Err(ManagerError::NoAnswer { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(refused < 100, "it is never made");
    };
    assert!(refused > 0, "the endpoint was not slow");
    let (keys, open_uploads) = stores.content();
    assert_eq!(
        (keys, open_uploads),
        (vec!["repository.json".to_owned()], 0)
    );
    assert_eq!(
        clouds.short_id(&profile).await.unwrap(),
        repository.short_id()
    );
    let again = clouds.for_reading(&profile).await.unwrap().unwrap();
    assert_eq!(again.short_id(), repository.short_id());
}

/// What was read of a bucket is given back when no profile leads there any more.
#[tokio::test]
async fn records_of_a_place_without_a_profile_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let clouds = clouds(dir.path(), FakeStores::new(Arc::new(Faults::default())));
    let text = "{name: q, snapshotProperties: {topology: {bucket: others}}}";
    fs::write(dir.path().join("profiles/q.yaml"), text).unwrap();
    let all = clouds.records.left_bytes();
    let mut places = Vec::new();
    for name in ["p", "q"] {
        let profile = clouds.profile(name).await.unwrap();
        let repository = clouds.for_writing(&profile).await.unwrap();
        let (volume, snapshot) = ("vol-1".parse().unwrap(), format!("snap-{name}"));
        let snapshot = snapshot.parse().unwrap();
        delete(&repository, &volume, &snapshot).await.unwrap();
        let before = clouds.records.left_bytes();
        let listed = clouds.list(&profile, &repository).await.unwrap();
        assert_eq!(listed.len(), 1, "its tombstone");
        assert!(clouds.records.left_bytes() < before);
        places.push(profile.topology().unwrap().place());
    }
    let both = clouds.records.left_bytes();
    clouds.keep_records_of(|place| places.iter().any(|named| named == place));
    assert_eq!(clouds.records.left_bytes(), both);
    clouds.keep_records_of(|place| place == places[0]);
    assert!(clouds.records.left_bytes() > both);
    clouds.keep_records_of(|_| false);
    assert_eq!(clouds.records.left_bytes(), all);
}

/// Eight digits are soon made: whoever may write to some bucket does not decide what is restored.
#[tokio::test]
async fn one_that_only_shows_the_short_id_is_not_taken_for_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let stores = FakeStores::new(Arc::new(Faults::default()));
    let clouds = clouds(dir.path(), stores.clone());
    let profile = clouds.profile("p").await.unwrap();
    let repository = clouds.for_writing(&profile).await.unwrap();
    let short_id = repository.short_id();
    // The same place by another profile is the same repository.
    let add = |name: &str, bucket: &str| {
        let text =
            format!("{{name: {name}, snapshotProperties: {{topology: {{bucket: {bucket}}}}}}}");
        fs::write(dir.path().join(format!("profiles/{name}.yaml")), text).unwrap();
    };
    add("q", "backups");
    let (_, found) = clouds.by_short_id(&short_id).await.unwrap().unwrap();
    assert_eq!(found.id(), repository.id());
    add("a", "others");
    // Nobody has looked there yet, and the other one is known.
    let other = clouds.profile("a").await.unwrap();
    let place = other.topology().unwrap().place();
    stores.make_look_alike(&place, &short_id).await;
    assert_two_show(clouds.by_short_id(&short_id).await);
    // Both are known.
    let shown = clouds.for_reading(&other).await.unwrap().unwrap();
    assert_eq!(shown.short_id(), short_id);
    assert_two_show(clouds.by_short_id(&short_id).await);
}

fn assert_two_show(found: Result<Option<(Arc<Profile>, Repository)>, ManagerError>) {
    let refused = found.unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(refused, ManagerError::FailedPrecondition(_)),
        "{text}"
    );
    assert!(text.contains("both show the short id"), "{text}");
}
