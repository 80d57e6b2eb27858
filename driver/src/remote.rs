//! Pools of other nodes: the driver's calls over the network, on both sides.
//!
//! [`RemoteDriver`] is one more [`VolumeDriver`](crate::VolumeDriver); [`StorageService`] answers it with the drivers of the
//! node that has the pools. So nothing above the trait knows on which machine a volume lies. Between nodes both
//! sides show certificates of one authority (mutual TLS), and each certificate has the name of one node: the caller
//! checks that it reached the node that it meant, the storage node checks who calls, and lets it at its own volumes only
//! ([`Gate`]). On a unix socket, which only root opens, there is neither.
//!
//! An error arrives as the variant that it was, as far as a caller can act on it; what went wrong on the way is a
//! [`NodeError`]. Calls that lost their answer are repeated, since all but `grow_pool` are idempotent; each has a limit of
//! time. The storage node carries a call to its end even if its caller is gone.
//!
//! | module | what it is |
//! | --- | --- |
//! | `driver` | the driver that asks |
//! | `node` | one call: connecting, repeating, giving up |
//! | `config` | where a storage node is, and how long to wait for it |
//! | `service`, `call` | the service that answers, and what each call passes through |
//! | `callers` | how much one caller may ask for at the same time |
//! | `serve` | the service on the network |
//! | `arrivals` | how many connections there may be, and how long one may ask nothing |
//! | `certificate`, `renewal` | a node's certificate: whose it is, how long it lasts; taken anew when it was renewed |
//! | `pages` | long lists in pieces |
//! | `wire` | values to messages and back |
//! | `failure` | errors to statuses and back |
//! | `error` | what can go wrong between two nodes |

mod arrivals;
mod call;
mod callers;
mod certificate;
mod config;
mod driver;
mod error;
mod failure;
mod node;
mod pages;
mod renewal;
mod serve;
mod service;
mod wire;

pub use call::{Caller, Gate, Intent, OpenGate, Subject};
pub use certificate::{CertificateError, CertificateFacts, CertificateFiles, NodeCertificate};
pub use config::{Address, InvalidAddress, Limits, RemoteConfig};
pub use driver::RemoteDriver;
pub use error::NodeError;
pub use renewal::RenewedCertificate;
pub use serve::{Listeners, ServeError};
pub use service::StorageService;
