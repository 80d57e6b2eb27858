//! The flows on real storage: LVM thin pools and image files as loop devices, attached for real, with an S3 server in
//! this process. Runs in the test host.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod lab;
mod real;
