//! The S3 server of the tests, driven by the SDK that its users know.

#![expect(clippy::unwrap_used, reason = "a failing helper fails the test")]

#[path = "s3/client.rs"]
mod client;
#[path = "s3/faults.rs"]
mod faults;
#[path = "s3/lesser.rs"]
mod lesser;
#[path = "s3/listing.rs"]
mod listing;
#[path = "s3/multipart.rs"]
mod multipart;
#[path = "s3/objects.rs"]
mod objects;
#[path = "s3/proxy.rs"]
mod proxy;
#[path = "s3/real.rs"]
mod real;
#[path = "s3/transport.rs"]
mod transport;
