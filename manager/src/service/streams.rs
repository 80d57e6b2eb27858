//! The calls about contents that are sent and received as they are.

use std::pin::Pin;

use futures::Stream;
use stockpot_proto::stockpot::v1::{self as api, streams_server::Streams};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::{Instrument, info_span};

use super::{Answer, Service};

/// Answers that wait for a caller who is slow to take them.
const QUEUE_LEN: usize = 4;

type Progress = Pin<Box<dyn Stream<Item = Result<api::StreamProgress, Status>> + Send>>;

#[tonic::async_trait]
impl Streams for Service {
    type SendSnapshotStream = Progress;

    async fn send_snapshot(
        &self,
        request: Request<api::SendSnapshotRequest>,
    ) -> Answer<Self::SendSnapshotStream> {
        let request = request.into_inner();
        let span = info_span!(
            "send_snapshot",
            snapshot_id = request.snapshot_id,
            destination = request.destination
        );
        let manager = self.manager()?;
        let (watcher, watched) = mpsc::channel(QUEUE_LEN);
        let work = manager.clone().send_snapshot(request, watcher);
        manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(watched))))
    }

    type ReceiveVolumeStream = Progress;

    async fn receive_volume(
        &self,
        request: Request<api::ReceiveVolumeRequest>,
    ) -> Answer<Self::ReceiveVolumeStream> {
        let request = request.into_inner();
        let span = info_span!(
            "receive_volume",
            name = request.name,
            source = request.source
        );
        let manager = self.manager()?;
        let (watcher, watched) = mpsc::channel(QUEUE_LEN);
        let work = manager.clone().receive_volume(request, watcher);
        manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(watched))))
    }

    async fn list_streams(
        &self,
        request: Request<api::ListStreamsRequest>,
    ) -> Answer<api::ListStreamsResponse> {
        let streams = self.manager()?.list_streams(request.into_inner()).await?;
        Ok(Response::new(api::ListStreamsResponse { streams }))
    }

    async fn get_target(
        &self,
        request: Request<api::GetVolumeRequest>,
    ) -> Answer<api::VolumeTarget> {
        let id = request.into_inner().volume_id;
        Ok(Response::new(self.manager()?.volume_target(&id).await?))
    }
}
