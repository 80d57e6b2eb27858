//! Compiles every `.proto` file of this crate, without a `protoc` installed.

use std::{env, error::Error, path::PathBuf};

/// Files relative to this crate; each is also its import path.
const FILES: [&str; 9] = [
    "stockpot/v1/manager.proto",
    "stockpot/v1/backup.proto",
    "stockpot/v1/catalog.proto",
    "stockpot/v1/profile.proto",
    "stockpot/v1/schedule.proto",
    "stockpot/v1/stream.proto",
    "stockpot/v1/volume.proto",
    "stockpot/v1/storage_node.proto",
    "csi/v1/csi.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a build script is told where it runs by the environment"
    )]
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, [&root])?;
    tonic_prost_build::configure()
        // The file's comments are written for readers of the .proto, not as Markdown.
        .disable_comments(["."])
        // It holds a secret: what prints it is written by hand.
        .skip_debug(["stockpot.v1.storage.Chap"])
        .compile_fds(descriptors)?;
    Ok(())
}
