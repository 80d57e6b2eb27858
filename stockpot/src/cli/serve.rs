//! `stockpot serve`.

use std::path::PathBuf;

use clap::Args;

/// `stockpot serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot serve --config /etc/stockpot/config.yaml
  stockpot serve --config config.yaml --check
  RUST_LOG=info,stockpot_manager=debug,stockpot_driver=debug stockpot serve

--check looks at the file, and at the gateway's tokens and certificate; whether pools, keys and buckets are there shows at the start. The file has \
a section for each frontend: `csi` for CSI, `gateway` for REST (OpenSDS, Cinder, cStor). docs/operations.md describes it.")]
pub(crate) struct ServeArgs {
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE", default_value = "/etc/stockpot/config.yaml")]
    pub(crate) config: PathBuf,
    /// Read and check the configuration, then stop.
    #[arg(long)]
    pub(crate) check: bool,
}
