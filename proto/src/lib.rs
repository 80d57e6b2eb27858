//! The protocols that Stockpot speaks, as generated from the `.proto` files of this crate.
//!
//! The `.proto` files are the documentation: `stockpot/v1/manager.proto` (the one way into a
//! manager) and `csi/v1/csi.proto` (Container Storage Interface 1.13.0, as published).

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
