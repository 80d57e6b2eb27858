//! Between the connection, which waits, and the threads that read, hash and write.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Watcher, progress};
use crate::{Manager, catalog::StreamRow, error::chain};

/// Pieces that wait for the slower side, each of a mebibyte at most.
const QUEUE_LEN: usize = 4;
/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// A thread's end that takes bytes, and one that gives them.
pub(super) fn pipe() -> (Out, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    (Out(sender), receiver)
}

/// The other way round.
pub(super) fn pipe_in() -> (mpsc::Sender<Vec<u8>>, In) {
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    let end = In {
        receiver,
        current: Vec::new(),
        at: 0,
    };
    (sender, end)
}

/// What is written here is sent.
#[derive(Debug)]
pub(super) struct Out(mpsc::Sender<Vec<u8>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(bytes.to_vec());
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is received is read here.
#[derive(Debug)]
pub(super) struct In {
    receiver: mpsc::Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for In {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.at == self.current.len() {
            let Some(next) = self.receiver.blocking_recv() else {
                return Ok(0);
            };
            (self.current, self.at) = (next, 0);
        }
        let len = into.len().min(self.current.len() - self.at);
        into[..len].copy_from_slice(&self.current[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// How far one is, as the thread says that does the work.
#[derive(Debug, Clone, Default)]
pub(super) struct HowFar {
    done: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
}

impl HowFar {
    pub(super) fn of(total: u64) -> Self {
        let far = Self::default();
        far.known(total);
        far
    }

    pub(super) fn known(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn reached(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Puts it into a row.
    pub(super) fn note(&self, row: &mut StreamRow) {
        row.bytes_done = self.done.load(Ordering::Relaxed);
        row.bytes_total = self.total.load(Ordering::Relaxed);
    }
}

impl Manager {
    /// Works, tells meanwhile how far that is, and cancels it when nobody listens any more.
    pub(super) async fn watched<T>(
        &self,
        row: &StreamRow,
        far: &HowFar,
        watcher: &Watcher,
        cancel: &CancellationToken,
        work: impl Future<Output = T> + Send,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let mut row = row.clone();
        let mut is_watched = true;
        // The first says that it is on record.
        let mut tick = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = watcher.closed(), if is_watched => {
                    is_watched = false;
                    tracing::warn!(stream_id = row.id, "whoever asked for the stream has gone: it is given up");
                    cancel.cancel();
                }
                _ = tick.tick() => {
                    far.note(&mut row);
                    // Who is slow to listen is told less.
                    let _ = watcher.try_send(Ok(progress(&row)));
                    if let Err(error) = self.catalog.stream_progress(&row.id, row.bytes_done).await {
                        tracing::warn!(error = chain(&error), "how far a stream is cannot be noted");
                    }
                }
            }
        }
    }
}
