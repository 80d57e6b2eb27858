//! A driver that is started again while somebody watches: it is waited for, for some time.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use tonic::{Code, Status};

use crate::{cli::Cli, printable};

/// How long a driver may be silent. One that starts reads its catalog and looks at its pools first.
const SILENT_MAX: Duration = Duration::from_secs(120);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long a driver has been silent, if it is.
#[derive(Debug, Default)]
pub(super) struct Patience {
    has_answered: bool,
    silent_since: Option<Instant>,
}

impl Patience {
    /// It has answered.
    pub(super) fn heard(&mut self) {
        *self = Self {
            has_answered: true,
            silent_since: None,
        };
    }

    /// Waits a moment before it is asked again.
    ///
    /// # Errors
    /// What a call met, where that does not pass by itself, or has not for too long.
    pub(super) async fn wait(&mut self, cli: &Cli, met: Status) -> Result<(), Status> {
        let may_pass = match met.source() {
            // The driver's own word: it has just been started, or ends.
            None => met.code() == Code::Unavailable,
            // The connection's. A driver that never was there is not waited for.
            Some(_) => self.has_answered,
        };
        let is_news = self.silent_since.is_none();
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        if !may_pass || since.elapsed() > SILENT_MAX {
            return Err(met);
        }
        if is_news && !cli.quiet {
            let why = printable::line(met.message());
            remark!("the driver cannot be asked now ({why}): waiting for it");
        }
        tokio::time::sleep(ASK_EVERY).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser as _;

    use super::*;

    fn broken() -> Status {
        let mut status = Status::unavailable("refused");
        status.set_source(Arc::new(std::io::Error::other("refused")));
        status
    }

    #[tokio::test]
    async fn only_what_may_pass_is_waited_for() {
        let cli = Cli::try_parse_from(["stockpot", "status", "-q"]).unwrap();
        let mut patience = Patience::default();
        let absent = patience.wait(&cli, Status::not_found("no such backup"));
        assert_eq!(absent.await.unwrap_err().code(), Code::NotFound);
        let mut patience = Patience::default();
        patience.wait(&cli, broken()).await.unwrap_err();
        let mut patience = Patience::default();
        let starting = Status::unavailable("ask again");
        patience.wait(&cli, starting.clone()).await.unwrap();
        patience.heard();
        patience.wait(&cli, broken()).await.unwrap();
        let long_ago = Instant::now().checked_sub(SILENT_MAX + ASK_EVERY);
        patience.silent_since = Some(long_ago.unwrap());
        patience.wait(&cli, starting.clone()).await.unwrap_err();
        patience.heard();
        patience.wait(&cli, starting).await.unwrap();
    }
}
