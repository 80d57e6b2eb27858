//! The CSI frontend: what Kubernetes, Nomad and other orchestrators talk to.
//!
//! It translates the calls of the Container Storage Interface 1.13 to `stockpot.v1` and keeps no state of its
//! own: volumes, snapshots and attached devices are the manager's, mounts are the kernel's. So it can be killed
//! and started at any moment; a call that is repeated finds what the one before it did, finished or half-done.
//!
//! - [`serve`] binds the socket, answers, and drains when asked to stop.
//! - `identity`, `controller` and `node` are the three CSI services, one file per group of calls.
//! - `mount` is everything that touches the host: file systems, mounts, device sizes.
//! - `codes` chooses every gRPC code, `log` keeps secrets out of the log.
//!
//! A node's side effects run in tasks of their own: a caller that goes away in the middle of `mkfs` does not stop
//! it, and one that asks again meanwhile is told `ABORTED`.

mod codes;
mod config;
mod controller;
mod deadline;
mod identity;
mod locks;
mod log;
mod manager;
mod mount;
mod node;
mod request;
mod server;

pub use config::{CsiConfig, DEFAULT_DRIVER_NAME, EndpointError, parse_endpoint};
pub use server::{ServeError, serve};
