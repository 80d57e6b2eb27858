//! The REST frontends: the protocols of OpenSDS, Cinder and cStor, for tools that speak them already.
//!
//! It translates their calls to `stockpot.v1` and keeps no state of its own: what has to be remembered stands with the
//! volume, snapshot or backup as metadata, at the manager. So it can be killed and started at any moment.
//!
//! - [`serve`] listens on a unix socket, on TCP, or on both, answers, and drains when asked to stop.
//! - `access` tells who a caller is and whether he may call; `audit` writes down every call that changes something.
//! - `bounds` keeps callers within limits: size, rate, calls at once, time.
//! - `problem` chooses every HTTP status; `extract` reads requests; each API says what its errors look like.
//! - `opensds`, `cinder`, `cstor` are one API each: its paths, its words, its JSON.

mod access;
mod audit;
mod bounds;
mod cinder;
mod config;
mod connection;
mod cstor;
mod extract;
mod health;
mod listen;
mod manager;
mod openapi;
mod opensds;
mod places;
mod problem;
mod routes;
mod server;
mod state;

pub use access::TokensError;
pub use config::{
    AuthenticationConfig, CertificateConfig, ConfigError, GatewayConfig, LimitsConfig, Network,
    SocketMode,
};
pub use listen::{ListenError, TlsError};
pub use server::{GatewayError, check_files, serve};
