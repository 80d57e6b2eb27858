//! A body on its way, counted and, where a fault asks for it, damaged.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use s3s::StdError;
use tokio::time::Sleep;

use super::journal::Ticket;

/// How long a body waits before it breaks off, so that what it gave is on the wire.
const FLUSH_PAUSE: Duration = Duration::from_millis(30);

/// What happens to the bytes of a body. Positions count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    AsIs,
    /// The lowest bit of the byte at this position is inverted.
    FlipAt(u64),
    /// After this many bytes the connection breaks.
    BreakAt(u64),
    /// After this many bytes the body ends as if it were whole.
    EndAt(u64),
    /// After this many bytes nothing more comes, and the connection stays open.
    StallAt(u64),
}

impl Shape {
    fn limit(self) -> Option<u64> {
        match self {
            Self::AsIs | Self::FlipAt(_) => None,
            Self::BreakAt(limit) | Self::EndAt(limit) | Self::StallAt(limit) => Some(limit),
        }
    }
}

/// See the module.
pub(crate) struct ShapedBody {
    inner: s3s::Body,
    shape: Shape,
    position: u64,
    counter: Arc<AtomicU64>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Held until the body is gone: the request is under way as long.
    _ticket: Option<Ticket>,
}

impl ShapedBody {
    pub(crate) fn new(inner: s3s::Body, shape: Shape, counter: Arc<AtomicU64>) -> Self {
        Self {
            inner,
            shape,
            position: 0,
            counter,
            pause: None,
            _ticket: None,
        }
    }

    /// Keeps the request's record open until this body has gone out.
    pub(crate) fn holding(mut self, ticket: Ticket) -> Self {
        self._ticket = Some(ticket);
        self
    }

    fn shaped(&mut self, data: Bytes) -> Bytes {
        let length = data.len() as u64;
        let mut data = data;
        if let Shape::FlipAt(at) = self.shape
            && (self.position..self.position + length).contains(&at)
        {
            let mut copy = BytesMut::from(data.as_ref());
            copy[usize::try_from(at - self.position).expect("within the buffer")] ^= 1;
            data = copy.freeze();
        }
        if let Some(limit) = self.shape.limit() {
            let left = usize::try_from(limit - self.position).unwrap_or(usize::MAX);
            data.truncate(left);
        }
        self.position += data.len() as u64;
        self.counter.fetch_add(data.len() as u64, Ordering::Relaxed);
        data
    }

    fn poll_limit(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match self.shape {
            Shape::EndAt(_) => Poll::Ready(None),
            Shape::StallAt(_) => Poll::Pending,
            _ => {
                let pause = self
                    .pause
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH_PAUSE)));
                pause
                    .as_mut()
                    .poll(context)
                    .map(|()| Some(Err(StdError::from("the body was broken off on order"))))
            }
        }
    }
}

impl Body for ShapedBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        if self
            .shape
            .limit()
            .is_some_and(|limit| self.position >= limit)
        {
            return self.poll_limit(context);
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Some(Ok(Frame::data(self.shaped(data)))),
                Err(frame) => Some(Ok(frame)),
            },
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.shape.limit().is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.inner.size_hint();
        match (self.shape, hint.exact()) {
            (Shape::EndAt(limit), Some(exact)) => {
                SizeHint::with_exact(exact.min(limit.saturating_sub(self.position)))
            }
            _ => hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn run(shape: Shape) -> Result<(Bytes, u64), String> {
        let counter = Arc::new(AtomicU64::new(0));
        let inner = s3s::Body::from(Bytes::from_static(b"0123456789"));
        let body = ShapedBody::new(inner, shape, Arc::clone(&counter));
        let collected = body.collect().await.map_err(|error| error.to_string())?;
        Ok((collected.to_bytes(), counter.load(Ordering::Relaxed)))
    }

    #[tokio::test]
    async fn shapes() {
        assert_eq!(
            run(Shape::AsIs).await.unwrap(),
            (Bytes::from_static(b"0123456789"), 10)
        );
        assert_eq!(
            run(Shape::FlipAt(3)).await.unwrap(),
            (Bytes::from_static(b"0122456789"), 10)
        );
        assert_eq!(
            run(Shape::FlipAt(99)).await.unwrap(),
            (Bytes::from_static(b"0123456789"), 10)
        );
        assert_eq!(
            run(Shape::EndAt(4)).await.unwrap(),
            (Bytes::from_static(b"0123"), 4)
        );
        assert!(run(Shape::BreakAt(4)).await.is_err());
        let stalled = tokio::time::timeout(Duration::from_millis(20), run(Shape::StallAt(4))).await;
        assert!(stalled.is_err());
    }
}
