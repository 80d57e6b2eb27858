//! - `cases`: what every store must do; run on the memory store and on the S3 store with a server of this process.
//! - `bounds`: answers without end.
//! - `flooded`: listings full of names that are none of ours.
//! - `faults`: lost answers, resets, damage, silence.
//! - `credentials`: expiry in mid-upload, refusals, certificates.
//! - `environment`: what the AWS command line's users expect of environment and profiles.
//! - `endpoints`: servers that can do less.
//! - `real`: the cases on the servers named by `STOCKPOT_TEST_S3`.

mod bed;
mod bounds;
mod cases;
mod credentials;
mod endpoints;
mod environment;
mod faults;
mod flooded;
mod real;
