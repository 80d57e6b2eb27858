//! A store that asks before each request, so that a test decides who goes next; and one that lies, to show what a rule is
//! good for.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::store::{
    ListPage, Multipart, ObjectMeta, ObjectStore, PartReceipt, PutMode, StoreError,
};
use tokio::sync::{Notify, oneshot};

use crate::layer::{Layer, Over};

/// No step of any test takes this long.
const STUCK: Duration = Duration::from_secs(60);

/// Who waits for what.
#[derive(Default)]
pub(crate) struct Gate {
    actors: Mutex<BTreeMap<&'static str, Actor>>,
    changed: Notify,
}

#[derive(Default)]
struct Actor {
    waiting: Vec<(String, oneshot::Sender<()>)>,
    running: usize,
    is_dead: bool,
    has_ended: bool,
}

impl Actor {
    fn is_at_rest(&self) -> bool {
        self.running == 0 && (self.has_ended || self.waiting.iter().any(|(_, go)| !go.is_closed()))
    }
}

/// A request is under way until this is dropped.
struct Permit<'a>(&'a Gate, &'static str);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.with(self.1, |actor| actor.running -= 1);
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Actor>> {
        self.actors.lock().unwrap()
    }

    fn with<T>(&self, name: &'static str, change: impl FnOnce(&mut Actor) -> T) -> T {
        let done = change(self.lock().entry(name).or_default());
        self.changed.notify_waiters();
        done
    }

    /// Runs what an actor does; its requests through a [`Gated`] store of that name wait to be let through.
    pub(crate) fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.with(name, |actor| actor.has_ended = false);
        let gate = self.clone();
        tokio::spawn(async move {
            let done = work.await;
            gate.with(name, |actor| actor.has_ended = true);
            done
        })
    }

    async fn enter(&self, name: &'static str, what: String) -> Result<Permit<'_>, StoreError> {
        let (go, gone) = oneshot::channel();
        let is_dead = self.with(name, |actor| {
            if !actor.is_dead {
                actor.waiting.push((what, go));
            }
            actor.is_dead
        });
        if is_dead || gone.await.is_err() {
            return Err(StoreError::Unavailable {
                endpoint: "the test".to_owned(),
                doing: "anything".to_owned(),
                attempts: 1,
                source: "the actor was killed".into(),
            });
        }
        Ok(Permit(self, name))
    }

    /// Waits until every actor has a request to make, or has ended.
    async fn settle(&self) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.lock().values().all(Actor::is_at_rest) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(STUCK, waiting).await.is_err() {
            let actors = self.lock();
            let states: Vec<_> = actors
                .iter()
                .map(|(name, a)| (name, a.running, a.has_ended, a.waiting.len()))
                .collect();
            panic!("nothing moves: {states:?}");
        }
    }

    /// Every request that waits.
    pub(crate) async fn waiting(&self) -> Vec<(&'static str, String)> {
        self.settle().await;
        let actors = self.lock();
        let of = |(name, actor): (&&'static str, &Actor)| {
            let open = actor.waiting.iter().filter(|(_, go)| !go.is_closed());
            let of = open.map(|(what, _)| (*name, what.clone()));
            of.collect::<Vec<_>>()
        };
        actors.iter().flat_map(of).collect()
    }

    /// Lets a request through.
    pub(crate) fn grant(&self, name: &'static str, what: &str) {
        self.with(name, |actor| {
            actor.waiting.retain(|(_, go)| !go.is_closed());
            let at = actor.waiting.iter().position(|(waits, _)| waits == what);
            if let Some(at) = at {
                let (_, go) = actor.waiting.remove(at);
                actor.running += 1;
                if go.send(()).is_err() {
                    actor.running -= 1;
                }
            }
        });
    }

    /// From now on the actor does nothing more: as if its process was killed.
    pub(crate) fn kill(&self, name: &'static str) {
        self.with(name, |actor| {
            actor.is_dead = true;
            actor.waiting.clear();
        });
    }

    /// Lets one actor go on until it is about to do something; `false` if it ended before.
    pub(crate) async fn run_until(&self, name: &'static str, what: &str) -> bool {
        loop {
            let waiting = self.waiting().await;
            let mut own = waiting.iter().filter(|(actor, _)| *actor == name);
            if own.clone().any(|(_, waits)| waits.starts_with(what)) {
                return true;
            }
            match own.next() {
                Some((_, next)) => self.grant(name, next),
                None => return false,
            }
        }
    }

    /// Lets one actor go on to its end.
    pub(crate) async fn run_out(&self, name: &'static str) {
        assert!(!self.run_until(name, "what nobody does").await);
    }
}

/// What a store makes an actor believe, as if it had a rule less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// An uploader sees no condemned list.
    NoCondemned,
    /// An uploader sees records as it saw them first, and the packs that were there then beside those that came since.
    OldRecords,
    /// An uploader's manifest replaces what is there.
    BlindPut,
    /// A pruner's tombstones are taken and not put.
    NoFence,
    /// A pruner's own list seems to be there for ever.
    ListStays,
    /// A pruner sees the snapshots as they were before it listed the intents.
    SnapshotsFirst,
}

/// An actor's way to the store.
pub(crate) struct Gated {
    inner: Arc<dyn ObjectStore>,
    gate: Arc<Gate>,
    name: &'static str,
    lie: Option<Lie>,
    records: Mutex<BTreeMap<String, Bytes>>,
    packs: Mutex<Option<ListPage>>,
    list: Mutex<Option<ObjectMeta>>,
    snapshots: Mutex<Option<ListPage>>,
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gated({})", self.name)
    }
}

impl Gated {
    pub(crate) fn over(
        inner: &Arc<dyn ObjectStore>,
        gate: &Arc<Gate>,
        name: &'static str,
        lie: Option<Lie>,
    ) -> Arc<dyn ObjectStore> {
        Arc::new(Over(Self {
            inner: inner.clone(),
            gate: gate.clone(),
            name,
            lie,
            records: Mutex::default(),
            packs: Mutex::default(),
            list: Mutex::default(),
            snapshots: Mutex::default(),
        }))
    }

    async fn enter(&self, what: &str, key: &str) -> Result<Permit<'_>, StoreError> {
        self.gate.enter(self.name, format!("{what} {key}")).await
    }

    fn lies(&self, lie: Lie, key: &str, prefix: &str) -> bool {
        self.lie == Some(lie) && key.starts_with(prefix)
    }
}

#[async_trait]
impl Layer for Gated {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let what = match mode {
            PutMode::IfAbsent => "create",
            PutMode::Overwrite => "put",
        };
        let _permit = self.enter(what, key).await?;
        if self.lies(Lie::NoFence, key, "snapshots/") {
            return Ok(());
        }
        let mode = if self.lies(Lie::BlindPut, key, "snapshots/") {
            PutMode::Overwrite
        } else {
            mode
        };
        self.inner.put(key, body, mode).await
    }
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        let _permit = self.enter("get", key).await?;
        if !self.lies(Lie::OldRecords, key, "snapshots/") {
            return self.inner.get(key, bytes_max).await;
        }
        if let Some(old) = self.records.lock().unwrap().get(key) {
            return Ok(old.clone());
        }
        let new = self.inner.get(key, bytes_max).await?;
        let packs = self.inner.list("packs/", None).await?;
        self.packs.lock().unwrap().get_or_insert(packs);
        self.records
            .lock()
            .unwrap()
            .insert(key.to_owned(), new.clone());
        Ok(new)
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let _permit = self.enter("read", key).await?;
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        let _permit = self.enter("head", key).await?;
        if !self.lies(Lie::ListStays, key, "condemned/") {
            return self.inner.head(key).await;
        }
        if let Some(old) = self.list.lock().unwrap().clone() {
            return Ok(old);
        }
        let new = self.inner.head(key).await?;
        *self.list.lock().unwrap() = Some(new.clone());
        Ok(new)
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let _permit = self.enter("delete", key).await?;
        self.inner.delete(key).await
    }
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        if self.lies(Lie::SnapshotsFirst, prefix, "intents/") {
            let early = self.inner.list("snapshots/", None).await?;
            *self.snapshots.lock().unwrap() = Some(early);
        }
        let _permit = self.enter("list", prefix).await?;
        if self.lies(Lie::NoCondemned, prefix, "condemned/") {
            return Ok(ListPage::default());
        }
        let packs = self.packs.lock().unwrap().clone();
        if self.lies(Lie::OldRecords, prefix, "packs/")
            && let Some(mut packs) = packs
        {
            let is_asked =
                |key: &str| key.starts_with(prefix) && from.is_none_or(|from| key > from);
            packs.objects.retain(|pack| is_asked(&pack.key));
            let now = self.inner.list(prefix, from).await?.objects;
            // What it put itself it sees.
            let is_new = |pack: &ObjectMeta| packs.objects.iter().all(|old| old.key != pack.key);
            let new: Vec<ObjectMeta> = now.into_iter().filter(is_new).collect();
            packs.objects.extend(new);
            packs.objects.sort_by(|a, b| a.key.cmp(&b.key));
            return Ok(packs);
        }
        let early = self.snapshots.lock().unwrap().clone();
        if prefix == "snapshots/"
            && let Some(early) = early
        {
            return Ok(early);
        }
        self.inner.list(prefix, from).await
    }
    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        let _permit = self.enter("open", key).await?;
        self.inner.multipart_create(key).await
    }
    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        let _permit = self.enter("part", &upload.key).await?;
        self.inner.multipart_put(upload, number, body).await
    }
    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        let _permit = self.enter("complete", &upload.key).await?;
        self.inner.multipart_complete(upload, parts).await
    }
    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        let _permit = self.enter("abort", &upload.key).await?;
        self.inner.multipart_abort(upload).await
    }
    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        let _permit = self.enter("open-uploads", prefix).await?;
        self.inner.multipart_list(prefix).await
    }
}
