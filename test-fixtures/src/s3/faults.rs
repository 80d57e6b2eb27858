//! Faults on order: which requests, and what happens to them.
//!
//! ```
//! use stockpot_test_fixtures::s3::{Action, Fault, Op, Server};
//!
//! # fn main() -> Result<(), stockpot_test_fixtures::s3::StartError> {
//! let server = Server::start()?;
//! // The answer to the third part of a pack is lost, though the part is stored.
//! let lost = server.faults().inject(Fault::new(Action::DropAfter).on(Op::UploadPart).key("packs/").nth(3));
//! // Every fifth request of any kind is told to slow down.
//! server.faults().inject(Fault::new(Action::slow_down()).every(5));
//! assert_eq!(server.faults().fired(lost), 0);
//! # Ok(())
//! # }
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::op::{Op, Target};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Not handled; answered with this status and S3 error code.
    Status {
        /// HTTP status, 400 to 599.
        status: u16,
        /// S3's error code.
        code: &'static str,
    },
    /// Handled; then answered with this status and error code all the same.
    AppliedThenStatus {
        /// HTTP status, 400 to 599.
        status: u16,
        /// S3's error code.
        code: &'static str,
    },
    /// Not handled; answered 200 with an error in the body, as S3 may answer `CompleteMultipartUpload`.
    OkWithError {
        /// S3's error code.
        code: &'static str,
    },
    /// The connection is closed before the request is handled.
    DropBefore,
    /// The connection is closed after this many bytes of the request's body were read; the request is not handled.
    DropDuring {
        /// Bytes of the body.
        after_bytes: u64,
    },
    /// Handled; the connection is closed instead of an answer.
    DropAfter,
    /// Waits, then goes on as usual.
    Delay(Duration),
    /// Never handled and never answered; the connection stays open until the client gives up.
    Hang,
    /// Handled; never answered.
    HangAfter,
    /// The answer's body breaks off after `keep_bytes`: the client sees the connection fail.
    TruncateBody {
        /// Bytes that arrive.
        keep_bytes: u64,
    },
    /// The answer's body ends after `keep_bytes`, and its headers say that this is all.
    ShortenBody {
        /// Bytes that arrive.
        keep_bytes: u64,
    },
    /// The answer's body stops after `keep_bytes` and the connection stays open.
    StallBody {
        /// Bytes that arrive.
        keep_bytes: u64,
    },
    /// One bit of the answer's body is wrong.
    FlipResponse {
        /// Position of the byte.
        at: u64,
    },
    /// One bit of the request's body is wrong when it reaches the server.
    FlipRequest {
        /// Position of the byte.
        at: u64,
    },
    /// Handled; the answer names another `ETag`, in headers and in XML.
    WrongEtag,
    /// A header of the answer is replaced, or removed where the value is `None`.
    SetHeader {
        /// Its name, in lower case.
        name: &'static str,
        /// Its new value.
        value: Option<&'static str>,
    },
    /// A listing is answered with no entries, and as complete.
    EmptyListing,
    /// Handled and answered; handled once more later, as when a network delivers a retry twice.
    LateDuplicate {
        /// From the answer to the second handling.
        after: Duration,
    },
}

impl Action {
    /// 503 `SlowDown`.
    #[must_use]
    pub const fn slow_down() -> Self {
        Self::Status {
            status: 503,
            code: "SlowDown",
        }
    }

    /// 500 `InternalError`.
    #[must_use]
    pub const fn internal_error() -> Self {
        Self::Status {
            status: 500,
            code: "InternalError",
        }
    }

    /// 403 `AccessDenied`.
    #[must_use]
    pub const fn access_denied() -> Self {
        Self::Status {
            status: 403,
            code: "AccessDenied",
        }
    }

    /// 400 `ExpiredToken`, as Amazon S3 answers; others answer 403 (give [`Action::Status`] yourself).
    #[must_use]
    pub const fn expired_token() -> Self {
        Self::Status {
            status: 400,
            code: "ExpiredToken",
        }
    }

    /// 403 `RequestTimeTooSkewed`.
    #[must_use]
    pub const fn time_too_skewed() -> Self {
        Self::Status {
            status: 403,
            code: "RequestTimeTooSkewed",
        }
    }

    /// 409 `ConditionalRequestConflict`.
    #[must_use]
    pub const fn conditional_conflict() -> Self {
        Self::Status {
            status: 409,
            code: "ConditionalRequestConflict",
        }
    }

    /// The name that a request's record carries.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::AppliedThenStatus { .. } => "applied-then-status",
            Self::OkWithError { .. } => "ok-with-error",
            Self::DropBefore => "drop-before",
            Self::DropDuring { .. } => "drop-during",
            Self::DropAfter => "drop-after",
            Self::Delay(_) => "delay",
            Self::Hang => "hang",
            Self::HangAfter => "hang-after",
            Self::TruncateBody { .. } => "truncate-body",
            Self::ShortenBody { .. } => "shorten-body",
            Self::StallBody { .. } => "stall-body",
            Self::FlipResponse { .. } => "flip-response",
            Self::FlipRequest { .. } => "flip-request",
            Self::WrongEtag => "wrong-etag",
            Self::SetHeader { .. } => "set-header",
            Self::EmptyListing => "empty-listing",
            Self::LateDuplicate { .. } => "late-duplicate",
        }
    }
}

/// Which of the matching requests are hit. They count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Nth(u64),
    First(u64),
    Every(u64),
    After(u64),
}

impl When {
    fn hits(self, count: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(nth) => count == nth,
            Self::First(first) => count <= first,
            Self::Every(every) => every != 0 && count.is_multiple_of(every),
            Self::After(after) => count > after,
        }
    }
}

/// An order: [`Fault::new`] hits every request; the other methods narrow it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    action: Action,
    ops: Vec<Op>,
    key: Option<String>,
    access_key: Option<String>,
    writes_only: bool,
    when: When,
}

impl Fault {
    /// `action` for every request.
    #[must_use]
    pub const fn new(action: Action) -> Self {
        Self {
            action,
            ops: Vec::new(),
            key: None,
            access_key: None,
            writes_only: false,
            when: When::Always,
        }
    }

    /// Only requests of `op`; called again, of that one as well.
    #[must_use]
    pub fn on(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Only requests that change something.
    #[must_use]
    pub fn on_writes(mut self) -> Self {
        self.writes_only = true;
        self
    }

    /// Only requests whose key (for listings: prefix) contains `part`.
    #[must_use]
    pub fn key(mut self, part: impl Into<String>) -> Self {
        self.key = Some(part.into());
        self
    }

    /// Only requests signed with `access_key`.
    #[must_use]
    pub fn access_key(mut self, access_key: impl Into<String>) -> Self {
        self.access_key = Some(access_key.into());
        self
    }

    /// Only the `nth` matching request, from 1.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.when = When::Nth(nth);
        self
    }

    /// Only the first matching request.
    #[must_use]
    pub fn once(self) -> Self {
        self.nth(1)
    }

    /// Only the first `count` matching requests.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.when = When::First(count);
        self
    }

    /// Only every `n`th matching request.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        self.when = When::Every(n);
        self
    }

    /// Only the matching requests after the first `count`.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.when = When::After(count);
        self
    }

    fn matches(&self, target: &Target) -> bool {
        let key = self
            .key
            .as_ref()
            .is_none_or(|part| target.key.as_ref().is_some_and(|key| key.contains(part)));
        let signer = self.access_key.is_none() || self.access_key == target.access_key;
        let op = self.ops.is_empty() || self.ops.contains(&target.op);
        op && key && signer && (!self.writes_only || target.op.writes())
    }
}

/// Names an order that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Injected {
    id: FaultId,
    fault: Fault,
    matched: u64,
    fired: u64,
}

#[derive(Debug, Default)]
struct Orders {
    given: u64,
    injected: Vec<Injected>,
}

/// The orders in force. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    orders: Arc<Mutex<Orders>>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order. Where several hit the same request, the one given first is carried out.
    pub fn inject(&self, fault: Fault) -> FaultId {
        let mut orders = self.lock();
        orders.given += 1;
        let id = FaultId(orders.given);
        orders.injected.push(Injected {
            id,
            fault,
            matched: 0,
            fired: 0,
        });
        id
    }

    /// Withdraws an order.
    pub fn remove(&self, id: FaultId) {
        self.lock().injected.retain(|injected| injected.id != id);
    }

    /// Withdraws every order.
    pub fn clear(&self) {
        self.lock().injected.clear();
    }

    /// How often an order was carried out; 0 once it is withdrawn.
    #[must_use]
    pub fn fired(&self, id: FaultId) -> u64 {
        self.lock()
            .injected
            .iter()
            .find(|injected| injected.id == id)
            .map_or(0, |injected| injected.fired)
    }

    /// How many requests an order matched, hit or not; 0 once it is withdrawn.
    #[must_use]
    pub fn matched(&self, id: FaultId) -> u64 {
        self.lock()
            .injected
            .iter()
            .find(|injected| injected.id == id)
            .map_or(0, |injected| injected.matched)
    }

    /// Counts a request against every order, and gives what is to happen to it.
    pub(crate) fn pick(&self, target: &Target) -> Option<Action> {
        let mut action = None;
        for injected in &mut self.lock().injected {
            if !injected.fault.matches(target) {
                continue;
            }
            injected.matched += 1;
            if action.is_none() && injected.fault.when.hits(injected.matched) {
                injected.fired += 1;
                action = Some(injected.fault.action.clone());
            }
        }
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(op: Op, key: &str) -> Target {
        Target {
            op,
            bucket: Some("b".into()),
            key: Some(key.into()),
            access_key: Some("AK".into()),
        }
    }

    fn hits(fault: Fault) -> Vec<u64> {
        let faults = Faults::default();
        let id = faults.inject(fault);
        let hits = (1..=6)
            .filter(|_| faults.pick(&target(Op::GetObject, "k")).is_some())
            .collect::<Vec<_>>();
        assert_eq!(
            (faults.matched(id), faults.fired(id)),
            (6, hits.len() as u64)
        );
        hits
    }

    #[test]
    fn times() {
        assert_eq!(hits(Fault::new(Action::DropBefore)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(hits(Fault::new(Action::DropBefore).nth(4)), [4]);
        assert_eq!(hits(Fault::new(Action::DropBefore).first(2)), [1, 2]);
        assert_eq!(hits(Fault::new(Action::DropBefore).every(3)), [3, 6]);
        assert_eq!(hits(Fault::new(Action::DropBefore).after(4)), [5, 6]);
    }

    #[test]
    fn matching() {
        let fault = Fault::new(Action::DropBefore)
            .on(Op::PutObject)
            .on(Op::UploadPart)
            .key("packs/")
            .access_key("AK");
        assert!(fault.matches(&target(Op::PutObject, "x/packs/1")));
        assert!(fault.matches(&target(Op::UploadPart, "packs/1")));
        assert!(!fault.matches(&target(Op::GetObject, "packs/1")));
        assert!(!fault.matches(&target(Op::PutObject, "map/1")));
        assert!(
            !fault
                .clone()
                .access_key("other")
                .matches(&target(Op::PutObject, "packs/1"))
        );
        let writes = Fault::new(Action::DropBefore).on_writes();
        assert!(
            writes.matches(&target(Op::DeleteObject, "k"))
                && !writes.matches(&target(Op::HeadObject, "k"))
        );
    }

    #[test]
    fn the_first_order_wins_and_all_count() {
        let faults = Faults::default();
        let first = faults.inject(Fault::new(Action::slow_down()).first(1));
        let second = faults.inject(Fault::new(Action::DropAfter).nth(2));
        assert_eq!(
            faults.pick(&target(Op::GetObject, "k")),
            Some(Action::slow_down())
        );
        assert_eq!(
            faults.pick(&target(Op::GetObject, "k")),
            Some(Action::DropAfter)
        );
        faults.remove(first);
        assert_eq!((faults.fired(first), faults.fired(second)), (0, 1));
        faults.clear();
        assert_eq!(faults.pick(&target(Op::GetObject, "k")), None);
    }
}
