//! The clients of the manager on this node.

use std::path::PathBuf;

use stockpot_proto::{
    socket,
    stockpot::v1::{
        backups_client::BackupsClient, manager_client::ManagerClient,
        profiles_client::ProfilesClient, streams_client::StreamsClient,
        volumes_client::VolumesClient,
    },
};
use tonic::transport::Channel;

/// Largest answer that is taken, in bytes: a list of many volumes is one message.
const ANSWER_SIZE_MAX: usize = 64 << 20;

/// One connection that is made when it is first needed, and again when it broke. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    channel: Channel,
}

/// One method per service.
macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident -> $client:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name(&self) -> $client<Channel> {
            $client::new(self.channel.clone()).max_decoding_message_size(ANSWER_SIZE_MAX)
        })*
    };
}

impl Manager {
    /// Has to be called inside a tokio runtime.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            channel: socket::channel(socket),
        }
    }

    clients! {
        /// Volumes and snapshots.
        manager -> ManagerClient;
        /// Backups.
        backups -> BackupsClient;
        /// Profiles.
        profiles -> ProfilesClient;
        /// What else can be done with volumes.
        volumes -> VolumesClient;
        /// Contents of snapshots, sent and received.
        streams -> StreamsClient;
    }
}
