//! The watchdog on file systems that are fakes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use nix::libc::{EBUSY, EINVAL};

use super::*;

/// What was done, in order, and what is frozen.
#[derive(Debug, Default)]
pub(in crate::quiesce) struct Bench {
    pub(in crate::quiesce) done: Mutex<Vec<String>>,
    /// Those that cannot be frozen.
    pub(in crate::quiesce) broken: Vec<&'static str>,
    /// Those that somebody else keeps frozen, while this is set.
    pub(in crate::quiesce) foreign: Vec<&'static str>,
    pub(in crate::quiesce) foreign_holds: AtomicBool,
    /// Those that somebody else thaws behind our back.
    pub(in crate::quiesce) stolen: Vec<&'static str>,
    /// Those whose freeze waits until this one is thawed, and a while longer: their disk is slow.
    pub(in crate::quiesce) slow: Vec<(&'static str, &'static str)>,
}

impl Bench {
    pub(in crate::quiesce) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    /// What is frozen by us now.
    fn frozen(&self) -> Vec<String> {
        let mut frozen = Vec::new();
        for what in self.done() {
            if let Some(name) = what.strip_prefix("freeze ") {
                frozen.push(name.to_owned());
            } else if let Some(name) = what.strip_prefix("thaw ") {
                frozen.retain(|other| other != name);
            }
        }
        frozen
    }
}

/// One of its file systems.
pub(in crate::quiesce) struct Fake {
    bench: Arc<Bench>,
    name: String,
}

impl Fake {
    pub(in crate::quiesce) fn open(bench: &Arc<Bench>, wanted: &Wanted) -> io::Result<Self> {
        Ok(Self {
            bench: bench.clone(),
            name: wanted.path.clone(),
        })
    }

    fn note(&self, what: &str) {
        let text = format!("{what} {}", self.name);
        self.bench.done.lock().unwrap().push(text);
    }

    fn is_in(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }
}

impl FileSystem for Fake {
    fn sync(&mut self) -> io::Result<()> {
        self.note("sync");
        Ok(())
    }

    fn freeze(&mut self) -> io::Result<()> {
        if self.is_in(&self.bench.broken) {
            return Err(io::Error::from_raw_os_error(nix::libc::EOPNOTSUPP));
        }
        if self.is_in(&self.bench.foreign) && self.bench.foreign_holds.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(EBUSY));
        }
        let slow = self.bench.slow.iter().find(|(name, _)| *name == self.name);
        if let Some((_, other)) = slow {
            let begun = Instant::now();
            let is_thawed = || self.bench.done().contains(&format!("thaw {other}"));
            while !is_thawed() && begun.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.note("freeze");
        Ok(())
    }

    fn thaw(&mut self) -> io::Result<()> {
        self.note("thaw");
        match self.is_in(&self.bench.stolen) {
            true => Err(io::Error::from_raw_os_error(EINVAL)),
            false => Ok(()),
        }
    }

    fn wait_as_a_writer(&mut self) {
        self.note("wait");
        thread::sleep(Duration::from_millis(3));
    }
}

fn wanted(names: &[&str], mode: Mode) -> Order {
    let wanted = |name: &&str| Wanted {
        path: (*name).to_owned(),
        mode,
    };
    Order::Prepare {
        file_systems: names.iter().map(wanted).collect(),
    }
}

/// What it answers to these orders; the pipe closes behind the last one, unless something is `said` after a frozen answer.
fn answers(
    bench: &Arc<Bench>,
    orders: Vec<Order>,
    on_frozen: impl Fn(&mpsc::Sender<Order>),
) -> Vec<Answer> {
    let (sender, receiver) = mpsc::channel();
    for order in orders {
        sender.send(order).unwrap();
    }
    let mut sender = Some(sender);
    let mut answers = Vec::new();
    attend(
        &receiver,
        |wanted| Fake::open(bench, wanted),
        |answer| {
            if matches!(answer, Answer::Frozen { .. }) {
                on_frozen(sender.as_ref().unwrap());
            } else if answer != Answer::Prepared {
                sender = None;
            }
            answers.push(answer);
        },
    );
    answers
}

const SOON: Order = Order::Freeze {
    deadline_ms: 60_000,
};

#[test]
fn frozen_in_order_and_thawed_in_reverse() {
    let bench = Arc::new(Bench::default());
    let orders = vec![wanted(&["a", "b"], Mode::Freeze), SOON];
    let told = answers(&bench, orders, |manager| {
        thread::sleep(Duration::from_millis(20));
        manager.send(Order::Thaw).unwrap();
    });
    let [
        Answer::Prepared,
        Answer::Frozen { foreign },
        Answer::Thawed { frozen_us },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert!(foreign.is_empty() && *frozen_us >= 20_000, "{told:?}");
    let expected = [
        "sync a", "sync b", "freeze a", "freeze b", "thaw b", "thaw a",
    ];
    assert_eq!(bench.done(), expected);
}

#[test]
fn one_that_cannot_be_frozen_frees_the_others() {
    let bench = Arc::new(Bench {
        broken: vec!["b"],
        ..Bench::default()
    });
    let orders = vec![wanted(&["a", "b", "c"], Mode::Freeze), SOON];
    let told = answers(&bench, orders, |_| unreachable!());
    assert!(
        matches!(
            &told[..],
            [Answer::Prepared, Answer::Failed { which: 1, .. }]
        ),
        "{told:?}"
    );
    assert_eq!(bench.done()[3..], ["freeze a", "thaw a"]);
}

#[test]
fn the_deadline_thaws() {
    let bench = Arc::new(Bench::default());
    let freeze = Order::Freeze { deadline_ms: 30 };
    let orders = vec![wanted(&["a", "b"], Mode::Freeze), freeze];
    let told = answers(&bench, orders, |_| {});
    let Some(Answer::Late { frozen_us }) = told.last() else {
        panic!("{told:?}");
    };
    assert!((30_000..20_000_000).contains(frozen_us), "{told:?}");
    assert_eq!(bench.frozen(), [""; 0]);
}

#[test]
fn a_manager_that_dies_leaves_nothing_frozen() {
    let bench = Arc::new(Bench::default());
    let (sender, receiver) = mpsc::channel();
    sender.send(wanted(&["a"], Mode::Freeze)).unwrap();
    sender.send(SOON).unwrap();
    let mut sender = Some(sender);
    let begun = Instant::now();
    attend(
        &receiver,
        |wanted| Fake::open(&bench, wanted),
        |answer| {
            if answer != Answer::Prepared {
                sender = None;
            }
        },
    );
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(bench.done(), ["sync a", "freeze a", "thaw a"]);
}

#[test]
fn one_that_hangs_keeps_no_other_frozen() {
    for dies in [false, true] {
        let bench = Arc::new(Bench {
            slow: vec![("b", "a")],
            ..Bench::default()
        });
        let (sender, receiver) = mpsc::channel();
        let deadline_ms = if dies { 60_000 } else { 50 };
        sender.send(wanted(&["a", "b", "c"], Mode::Freeze)).unwrap();
        sender.send(Order::Freeze { deadline_ms }).unwrap();
        let manager = thread::spawn({
            let bench = bench.clone();
            move || {
                let begun = Instant::now();
                let is_over = || match dies {
                    // In the middle of it.
                    true => bench.done().contains(&"freeze a".to_owned()),
                    false => bench.done().contains(&"thaw b".to_owned()),
                };
                while !is_over() && begun.elapsed() < Duration::from_secs(30) {
                    thread::sleep(Duration::from_millis(1));
                }
                drop(sender);
            }
        });
        let mut told = Vec::new();
        let open = |wanted: &Wanted| Fake::open(&bench, wanted);
        attend(&receiver, open, |answer| told.push(answer));
        // It was thawed while the other still hung, and that one as soon as it was frozen.
        let done = ["freeze a", "thaw a", "freeze b", "thaw b"];
        assert_eq!(bench.done()[3..], done, "{dies}");
        let is_late = matches!(told[..], [Answer::Prepared, Answer::Late { .. }]);
        assert_eq!(is_late, !dies, "{told:?}");
        manager.join().unwrap();
    }
}

#[test]
fn what_others_froze_is_left_to_them_and_has_to_stay_frozen() {
    for stays in [true, false] {
        let bench = Arc::new(Bench {
            foreign: vec!["a"],
            foreign_holds: AtomicBool::new(true),
            ..Bench::default()
        });
        let orders = vec![wanted(&["a", "b"], Mode::Freeze), SOON];
        let told = answers(&bench, orders, |manager| {
            bench.foreign_holds.store(stays, Ordering::Relaxed);
            manager.send(Order::Thaw).unwrap();
        });
        assert_eq!(told[1], Answer::Frozen { foreign: vec![0] });
        let kept = matches!(told.last(), Some(Answer::Thawed { .. }));
        let lost = matches!(told.last(), Some(Answer::Lost { which: 0, .. }));
        assert_eq!((kept, lost), (stays, !stays), "{told:?}");
        assert_eq!(bench.done().contains(&"thaw a".to_owned()), !stays);
        assert_eq!(bench.frozen(), [""; 0]);
    }
}

#[test]
fn one_that_others_thawed_is_told() {
    let bench = Arc::new(Bench {
        stolen: vec!["b"],
        ..Bench::default()
    });
    let orders = vec![wanted(&["a", "b"], Mode::Freeze), SOON];
    let told = answers(&bench, orders, |manager| manager.send(Order::Thaw).unwrap());
    assert!(
        matches!(told.last(), Some(Answer::Lost { which: 1, .. })),
        "{told:?}"
    );
    assert_eq!(bench.frozen(), [""; 0]);
}

#[test]
fn what_the_cut_freezes_is_only_measured() {
    let bench = Arc::new(Bench::default());
    let orders = vec![
        wanted(&["a"], Mode::Watch),
        Order::Freeze { deadline_ms: 1 },
    ];
    let told = answers(&bench, orders, |manager| {
        let manager = manager.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(40));
            let _ = manager.send(Order::Thaw);
        });
    });
    let Some(Answer::Thawed { frozen_us }) = told.last() else {
        panic!("{told:?}");
    };
    assert!((3_000..20_000_000).contains(frozen_us), "{told:?}");
    let done = bench.done();
    assert!(done[1..].iter().all(|what| what == "wait a"), "{done:?}");
}

#[test]
fn orders_and_answers_are_lines_of_json() {
    let order = wanted(&["/mnt/a\nb"], Mode::Watch);
    let text = serde_json::to_string(&order).unwrap();
    assert!(!text.contains('\n'), "{text}");
    assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    let text = serde_json::to_string(&Answer::Lost {
        which: 1,
        frozen_us: 2,
    })
    .unwrap();
    assert_eq!(text, r#"{"answer":"lost","which":1,"frozen_us":2}"#);
}
