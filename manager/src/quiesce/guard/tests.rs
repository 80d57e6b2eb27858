//! Manager and watchdog together, on file systems that are fakes: here they share a process.

use std::{
    sync::{atomic::AtomicBool, mpsc as std_mpsc},
    thread,
};

use super::{
    super::watchdog::{
        attend,
        tests::{Bench, Fake},
    },
    *,
};

/// A guard whose watchdog works on the bench; the names stand for mount points.
async fn guard(
    bench: &Arc<Bench>,
    names: &'static [&'static str],
    deadline: Duration,
) -> Result<Guard, GuardError> {
    let (orders, mut heard) = mpsc::channel(4);
    let (say, answers) = mpsc::channel(4);
    let (pass_on, passed_on) = std_mpsc::channel();
    thread::spawn(move || {
        while let Some(order) = heard.blocking_recv() {
            if pass_on.send(order).is_err() {
                return;
            }
        }
    });
    let bench = bench.clone();
    thread::spawn(move || {
        let opened = std::cell::Cell::new(0);
        let open = |wanted: &Wanted| {
            let name = names[opened.get()];
            opened.set(opened.get() + 1);
            Fake::open(
                &bench,
                &Wanted {
                    path: name.to_owned(),
                    mode: wanted.mode,
                },
            )
        };
        attend(&passed_on, open, |answer| {
            let _ = say.blocking_send(answer);
        });
    });
    let target = |name: &&str| Target {
        point: (*name).into(),
        file: Arc::new(File::open("/dev/null").unwrap()),
        mode: Mode::Freeze,
    };
    Guard::with(
        orders,
        answers,
        names.iter().map(target).collect(),
        deadline,
    )
    .await
}

#[tokio::test]
async fn thawed_when_told() {
    let bench = Arc::new(Bench::default());
    let mut guard = guard(&bench, &["a", "b"], GRACE).await.unwrap();
    guard.freeze().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(guard.thaw().await.unwrap() >= 20_000);
    assert_eq!(bench.done()[4..], ["thaw b", "thaw a"]);
}

#[tokio::test]
async fn the_one_that_cannot_be_frozen_is_named() {
    let bench = Arc::new(Bench {
        broken: vec!["b"],
        ..Bench::default()
    });
    let mut guard = guard(&bench, &["a", "b", "c"], GRACE).await.unwrap();
    let error = guard.freeze().await.unwrap_err();
    assert!(
        matches!(&error, GuardError::Refused { point, .. } if point == Path::new("b")),
        "{error}"
    );
    assert_eq!(bench.done()[3..], ["freeze a", "thaw a"]);
}

#[tokio::test]
async fn a_cut_that_takes_too_long_is_told() {
    let bench = Arc::new(Bench::default());
    let mut guard = guard(&bench, &["a"], Duration::from_millis(30))
        .await
        .unwrap();
    guard.freeze().await.unwrap();
    // The watchdog has ended by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.done()[2..], ["thaw a"]);
    let error = guard.thaw().await.unwrap_err();
    assert!(
        matches!(error, GuardError::Late { .. }) && error.frozen_us() >= 30_000,
        "{error}"
    );
}

#[tokio::test]
async fn a_guard_that_is_dropped_thaws() {
    let bench = Arc::new(Bench::default());
    let mut guard = guard(&bench, &["a"], GRACE).await.unwrap();
    guard.freeze().await.unwrap();
    drop(guard);
    for _ in 0..500 {
        if bench.done().len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.done(), ["sync a", "freeze a", "thaw a"]);
}

#[tokio::test]
async fn one_frozen_by_others_that_they_thaw_is_lost() {
    let bench = Arc::new(Bench {
        foreign: vec!["a"],
        foreign_holds: AtomicBool::new(true),
        ..Bench::default()
    });
    let mut guard = guard(&bench, &["a"], GRACE).await.unwrap();
    guard.freeze().await.unwrap();
    bench
        .foreign_holds
        .store(false, std::sync::atomic::Ordering::Relaxed);
    let error = guard.thaw().await.unwrap_err();
    assert!(matches!(error, GuardError::Lost { .. }), "{error}");
}

/// Nobody else would thaw until the cut is done.
#[tokio::test]
async fn a_watchdog_that_is_killed_during_the_cut_is_not_waited_for() {
    let (orders, mut heard) = mpsc::channel(4);
    let (say, answers) = mpsc::channel(4);
    let (kill, killed) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        heard.recv().await;
        say.send(Answer::Prepared).await.unwrap();
        heard.recv().await;
        let foreign = Vec::new();
        say.send(Answer::Frozen { foreign }).await.unwrap();
        let _ = killed.await;
    });
    let file = Arc::new(File::open("/dev/null").unwrap());
    let target = Target {
        point: "a".into(),
        file,
        mode: Mode::Freeze,
    };
    let mut guard = Guard::with(orders, answers, vec![target], GRACE)
        .await
        .unwrap();
    guard.freeze().await.unwrap();
    let cut = async {
        kill.send(()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        "cut"
    };
    assert_eq!(guard.during(cut).await, "cut");
    assert!(guard.given_up, "thawed before the cut was done");
    let error = guard.thaw().await.unwrap_err();
    assert!(matches!(error, GuardError::Ended), "{error}");
}

#[tokio::test]
async fn what_the_watchdog_says_during_the_cut_is_heard_after_it() {
    let bench = Arc::new(Bench::default());
    let deadline = Duration::from_millis(30);
    let mut guard = guard(&bench, &["a"], deadline).await.unwrap();
    guard.freeze().await.unwrap();
    guard
        .during(tokio::time::sleep(Duration::from_millis(300)))
        .await;
    let error = guard.thaw().await.unwrap_err();
    assert!(matches!(error, GuardError::Late { .. }), "{error}");
}

/// A program that is no watchdog freezes nothing, and does not keep anybody waiting.
#[tokio::test]
async fn a_program_that_says_something_else_is_given_up() {
    for program in ["/bin/true", "/bin/echo"] {
        let started = Guard::start(Path::new(program), Vec::new(), GRACE).await;
        assert!(matches!(started, Err(GuardError::Ended)), "{program}");
    }
    let missing = Guard::start(Path::new("/nowhere/stockpot"), Vec::new(), GRACE).await;
    assert!(matches!(missing, Err(GuardError::Start(_))));
}
