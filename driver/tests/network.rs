//! A storage node on the network: certificates, whose volumes are whose, lost connections. Needs only Rust.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod network {
    mod crowd;
    mod expiry;
    mod identity;
    mod lab;
    mod loss;
    mod renewal;
}
