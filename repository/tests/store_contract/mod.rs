//! - `cases`: what every store must do; run on the memory store and on the S3 store with a server of this process.
//! - `faults`: lost answers, resets, damage, silence.
//! - `credentials`: expiry in mid-upload, refusals, certificates.
//! - `endpoints`: servers that can do less.
//! - `real`: the cases on the servers named by `STOCKPOT_TEST_S3`.

mod bed;
mod cases;
mod credentials;
mod endpoints;
mod faults;
mod real;
