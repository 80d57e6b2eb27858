//! Every store against one contract, and the S3 store against everything that goes wrong on the way to a bucket.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helper fails the test that called it"
)]

mod store_contract;
