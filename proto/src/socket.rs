//! Reaching a manager over its unix socket.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::stockpot::v1::manager_client::ManagerClient;

/// A client of the manager that serves `socket`. It connects with the first call, and again when the connection broke.
/// Has to be called inside a tokio runtime.
#[must_use]
pub fn manager(socket: PathBuf) -> ManagerClient<Channel> {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is a form only: the connector knows where to go.
    let channel =
        Endpoint::from_static("http://manager.invalid").connect_with_connector_lazy(connector);
    ManagerClient::new(channel)
}
