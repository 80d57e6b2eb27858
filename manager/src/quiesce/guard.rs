//! The manager's side of the talk with the watchdog.
//!
//! Each of the two thaws when the other has gone: the watchdog when the pipe closes, and this side, which holds the same file
//! systems open, when the watchdog ends or says nothing any more.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stockpot_command::{Command, CommandError, Conversation};
use tokio::sync::mpsc;

use super::{
    ioctl,
    watchdog::{Answer, Mode, Order, Wanted},
};
use crate::error::chain;

/// What the program is called with.
const VERB: &str = "quiesce-watchdog";
/// How long writing out what is in memory may take, while nothing is frozen.
const PREPARE_WITHIN: Duration = Duration::from_secs(60);
/// How long after its deadline the watchdog may still be busy with freezing or thawing.
const GRACE: Duration = Duration::from_secs(10);

/// A file system that is to be frozen or watched.
#[derive(Debug)]
pub(super) struct Target {
    /// Where it is mounted.
    pub(super) point: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) mode: Mode,
}

/// Why file systems were not frozen, or not until the end of the cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuardError {
    #[error("the watchdog cannot be started")]
    Start(#[source] CommandError),
    #[error("{} cannot be frozen: {problem}", .point.display())]
    Refused { point: PathBuf, problem: String },
    #[error("the watchdog did not answer within {seconds} s")]
    Silent { seconds: u64 },
    #[error("the watchdog ended, or said what it should not")]
    Ended,
    #[error(
        "the file systems were thawed after the deadline of {seconds} s, before the cut was done"
    )]
    Late { seconds: u64, frozen_us: u64 },
    #[error("{} was thawed by somebody else before the cut was done", .point.display())]
    Lost { point: PathBuf, frozen_us: u64 },
}

impl GuardError {
    /// How long they were frozen all the same.
    pub(super) fn frozen_us(&self) -> u64 {
        match self {
            Self::Late { frozen_us, .. } | Self::Lost { frozen_us, .. } => *frozen_us,
            _ => 0,
        }
    }
}

/// A watchdog that is running. Dropping this ends it, and thaws.
#[derive(Debug)]
pub(super) struct Guard {
    orders: mpsc::Sender<Order>,
    answers: mpsc::Receiver<Answer>,
    targets: Vec<Target>,
    deadline: Duration,
    /// What it said before it was asked.
    said: Option<Answer>,
    /// It went away, or hangs, and was not waited for.
    given_up: bool,
}

impl Guard {
    /// Starts a watchdog, and lets it open the file systems.
    pub(super) async fn start(
        program: &Path,
        targets: Vec<Target>,
        deadline: Duration,
    ) -> Result<Self, GuardError> {
        let conversation = Command::new(program).arg(VERB).converse();
        let conversation = conversation.map_err(GuardError::Start)?;
        let (orders, heard) = mpsc::channel(4);
        let (say, answers) = mpsc::channel(4);
        tokio::spawn(talk(conversation, heard, say));
        Self::with(orders, answers, targets, deadline).await
    }

    /// The same with a watchdog that runs already.
    pub(super) async fn with(
        orders: mpsc::Sender<Order>,
        answers: mpsc::Receiver<Answer>,
        targets: Vec<Target>,
        deadline: Duration,
    ) -> Result<Self, GuardError> {
        let mut guard = Self {
            orders,
            answers,
            targets,
            deadline,
            said: None,
            given_up: false,
        };
        let wanted = guard.targets.iter().map(|target| Wanted {
            // The mount itself, whatever its name is, and in whichever namespace.
            path: format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                target.file.as_raw_fd()
            ),
            mode: target.mode,
        });
        let file_systems = wanted.collect();
        guard.say(Order::Prepare { file_systems }).await?;
        match guard.hear(PREPARE_WITHIN).await? {
            Answer::Prepared => Ok(guard),
            other => Err(guard.bad(other)),
        }
    }

    /// Freezes. When this fails, nothing is frozen any more.
    pub(super) async fn freeze(&mut self) -> Result<(), GuardError> {
        let deadline_ms = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
        let frozen = async {
            self.say(Order::Freeze { deadline_ms }).await?;
            self.hear(self.deadline + GRACE).await
        };
        match frozen.await {
            Ok(Answer::Frozen { foreign }) => {
                for which in foreign {
                    tracing::info!(
                        mounted_at = %self.point(which).display(),
                        "a file system is frozen by somebody else already"
                    );
                }
                Ok(())
            }
            Ok(other) => Err(self.bad(other)),
            Err(error) => {
                self.thaw_ourselves().await;
                Err(error)
            }
        }
    }

    /// Waits for the cut. If nobody else would thaw any more, that is done here at once.
    pub(super) async fn during<T>(&mut self, cut: impl Future<Output = T>) -> T {
        let mut cut = std::pin::pin!(cut);
        tokio::select! {
            biased;
            done = &mut cut => return done,
            () = self.gone() => {}
        }
        self.given_up = true;
        let (done, ()) = tokio::join!(cut, self.thaw_ourselves());
        done
    }

    /// Returns when the watchdog has ended without a word, or has said nothing long after its deadline.
    async fn gone(&mut self) {
        let heard = match self.targets.iter().any(|t| t.mode == Mode::Freeze) {
            true => {
                let late = self.deadline + GRACE;
                tokio::time::timeout(late, self.answers.recv()).await
            }
            // What the cut itself freezes has no deadline.
            false => Ok(self.answers.recv().await),
        };
        if let Ok(Some(answer)) = heard {
            // It says this after it has thawed.
            self.said = Some(answer);
            std::future::pending().await
        }
    }

    /// Thaws; how long they were frozen, in microseconds, if all were to the end.
    pub(super) async fn thaw(mut self) -> Result<u64, GuardError> {
        if self.given_up {
            return Err(GuardError::Ended);
        }
        let thawed = async {
            // One that thawed at the deadline listens no more; its answer is there.
            let said = self.say(Order::Thaw).await;
            match self.hear(GRACE).await {
                Err(GuardError::Ended) => said.and(Err(GuardError::Ended)),
                heard => heard,
            }
        };
        match thawed.await {
            Ok(Answer::Thawed { frozen_us }) => Ok(frozen_us),
            Ok(other) => Err(self.bad(other)),
            Err(error) => {
                self.thaw_ourselves().await;
                Err(error)
            }
        }
    }

    async fn say(&self, order: Order) -> Result<(), GuardError> {
        let sent = self.orders.send(order).await;
        sent.map_err(|_| GuardError::Ended)
    }

    async fn hear(&mut self, within: Duration) -> Result<Answer, GuardError> {
        if let Some(answer) = self.said.take() {
            return Ok(answer);
        }
        match tokio::time::timeout(within, self.answers.recv()).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(GuardError::Ended),
            Err(_) => Err(GuardError::Silent {
                seconds: within.as_secs(),
            }),
        }
    }

    fn point(&self, which: usize) -> &Path {
        let target = self.targets.get(which);
        target.map_or(Path::new("?"), |target| &target.point)
    }

    /// What an answer means that was not hoped for. Nothing is frozen any more after each of them.
    fn bad(&self, answer: Answer) -> GuardError {
        match answer {
            Answer::Failed { which, problem } => GuardError::Refused {
                point: self.point(which).to_owned(),
                problem,
            },
            Answer::Late { frozen_us } => GuardError::Late {
                seconds: self.deadline.as_secs(),
                frozen_us,
            },
            Answer::Lost { which, frozen_us } => GuardError::Lost {
                point: self.point(which).to_owned(),
                frozen_us,
            },
            Answer::Prepared | Answer::Frozen { .. } | Answer::Thawed { .. } => GuardError::Ended,
        }
    }

    /// What the watchdog may have left frozen.
    async fn thaw_ourselves(&self) {
        let ours = self.targets.iter().filter(|t| t.mode == Mode::Freeze);
        let ours: Vec<_> = ours.map(|t| (t.point.clone(), t.file.clone())).collect();
        let thawing = tokio::task::spawn_blocking(move || {
            for (point, file) in ours.into_iter().rev() {
                let point = point.display();
                match ioctl::thaw_if_frozen(&file) {
                    Ok(true) => {
                        tracing::warn!(mounted_at = %point, "thawed, since the watchdog did not")
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(mounted_at = %point, %error, "a file system may be frozen and cannot be thawed: fsfreeze -u thaws it");
                    }
                }
            }
        });
        // One that hangs keeps its thread, and nobody else.
        let _ = tokio::time::timeout(GRACE, thawing).await;
    }
}

/// Passes orders and answers on until either side ends.
async fn talk(
    mut conversation: Conversation,
    mut orders: mpsc::Receiver<Order>,
    answers: mpsc::Sender<Answer>,
) {
    loop {
        let failed = tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return };
                let line = serde_json::to_string(&order).expect("words and numbers are JSON");
                // One that listens no more may have said why.
                let _ = conversation.say(&line).await;
                continue;
            }
            heard = conversation.hear() => match heard {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(answer) => {
                        if answers.send(answer).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Ok(None) => return,
                Err(error) => chain(&error),
            }
        };
        tracing::warn!(error = failed, "the watchdog is not understood");
        return;
    }
}

#[cfg(test)]
mod tests;
