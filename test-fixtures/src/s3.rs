//! S3 servers for tests.
//!
//! - [`Server`]: in this process, all in memory, with real HTTP and TLS and signatures that are really checked;
//!   [`Capabilities`] make it behave like lesser endpoints.
//! - [`Faults`]: what goes wrong, on order.
//! - [`Journal`]: what the server was asked.
//! - [`FaultProxy`]: the same faults and the same journal in front of any other server.
//! - [`real`]: versitygw and MinIO as child processes.

mod body;
mod capabilities;
pub mod checksum;
mod faults;
mod front;
mod journal;
mod keys;
mod listen;
mod op;
mod proxy;
pub mod real;
mod server;
mod service;
mod store;

pub use capabilities::{Capabilities, ChecksumSupport, Conditional};
pub use faults::{Action, Fault, FaultId, Faults};
pub use journal::{Journal, RequestRecord};
pub use keys::{Credentials, Keys};
pub use op::Op;
pub use proxy::{FaultProxy, ProxyError};
pub use server::{BucketSnapshot, Builder, ObjectInfo, Server, StartError, UploadInfo};
