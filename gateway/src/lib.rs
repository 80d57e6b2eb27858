//! The REST frontends: the protocols of OpenSDS, Cinder and cStor, for tools that speak them already.
//!
//! It translates their calls to `stockpot.v1`: what has to be remembered stands with the volume, snapshot or backup as metadata, at
//! the manager. So it can be killed and started at any moment, and two things are lost by that. A stream that a call of cStor began
//! is given up when nobody listens to it any more: its backup has failed, and a volume that was to be filled is as it was. And of the
//! backups that had no volume to begin with it is forgotten that they were asked for. An orderly end waits for streams as long as for
//! requests.
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
mod listed;
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
pub use server::{GatewayError, serve};
