//! The parts that tests are made of.
//!
//! - [`s3`]: an S3 server in the test's own process, with real HTTP, real signatures and faults on order;
//!   the same faults in front of any other server; and real servers started as child processes.
//! - [`tls`]: a private certificate authority.
//! - [`csi_client`]: an orchestrator in miniature, which asks a CSI driver.
//! - [`image`]: disk images whose content follows from a seed, and comparison of files and devices.
//! - [`cases`]: how many cases a property is tried with.
//! - [`vg`]: volume groups that live as long as a test.
//! - [`leak`]: what a test left behind on the machine.
//!
//! Nothing here is part of what users install. Every part works on its own, takes no global lock, and
//! removes what it made when it is dropped.

pub mod cases;
pub mod csi_client;
mod exec;
pub mod image;
pub mod leak;
pub mod s3;
pub mod tls;
pub mod vg;
