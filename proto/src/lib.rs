//! The protocols that Stockpot speaks, as generated from the `.proto` files of this crate.
//!
//! The `.proto` files are the documentation: `stockpot/v1/manager.proto` (the one way into a
//! manager) with `backup.proto`, `catalog.proto`, `profile.proto`, `schedule.proto`, `stream.proto` and `volume.proto` beside it, `stockpot/v1/storage_node.proto` (what a storage node does for managers elsewhere) and `csi/v1/csi.proto`
//! (Container Storage Interface 1.13.0, as published).

pub mod socket;

/// The manager's own protocol.
pub mod stockpot {
    /// Version 1.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::too_many_lines,
        reason = "generated; documented in the .proto file"
    )]
    pub mod v1 {
        tonic::include_proto!("stockpot.v1");

        /// What a storage node does for managers elsewhere.
        pub mod storage {
            tonic::include_proto!("stockpot.v1.storage");

            impl std::fmt::Debug for Chap {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.debug_struct("Chap")
                        .field("username", &self.username)
                        .finish_non_exhaustive()
                }
            }
        }
    }
}

/// The Container Storage Interface.
pub mod csi {
    /// Version 1.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::too_many_lines,
        reason = "generated; documented in the .proto file"
    )]
    pub mod v1 {
        tonic::include_proto!("csi.v1");
    }
}
