//! What the labs of all frontends have: a manager on fakes with a gateway before it, HTTP as it is written and read, the log.
#![allow(dead_code, reason = "each test binary uses some of it")]

pub(crate) mod http;
pub(crate) mod log;
mod site;

use std::time::Duration;

pub(crate) use self::site::Site;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
