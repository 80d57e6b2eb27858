//! A server that does not answer is tried for minutes: whoever waits is told so, once and not for each request.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long it is not said again, also if the server answered in between.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What is known of a server's silence.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    heard: Option<Instant>,
    said: Option<Instant>,
}

impl Silence {
    /// The server answered something that was of use.
    pub(super) fn heard(&self) {
        self.state().heard = Some(Instant::now());
    }

    /// Whether a silence that began then is to be told. The answer is yes once, and no if the server answered another request since.
    pub(super) fn is_to_be_told(&self, since: Instant) -> bool {
        let mut state = self.state();
        let was_heard = state.heard.is_some_and(|heard| heard > since);
        let was_said = state.said.is_some_and(|said| said.elapsed() < AGAIN_AFTER);
        if was_heard || was_said {
            return false;
        }
        state.said = Some(Instant::now());
        true
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_and_only_if_nothing_was_heard() {
        let silence = Silence::default();
        let before = Instant::now();
        silence.heard();
        assert!(!silence.is_to_be_told(before));
        let since = Instant::now();
        assert!(silence.is_to_be_told(since));
        assert!(!silence.is_to_be_told(since));
        silence.heard();
        assert!(!silence.is_to_be_told(Instant::now()));
    }
}
