//! `stockpot volume adopt` and `release`: volumes that are there already.

use clap::Args;

use super::{SocketArgs, parse_label, volume_name::parse_volume_name};

/// `stockpot volume adopt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot volume adopt vg0/data
  stockpot volume adopt /dev/vg0/data --name web-1 --label owner=shop

The logical volume has to lie in a pool of the configuration: in its thin pool, or as a plain one in the volume group of an \
lvm-thick pool. It may be mounted and in use meanwhile: then it keeps its name until it is first attached while nobody uses it. \
From then on it is /dev/VG/stockpot.v.…, and active only while it is attached; what mounts it by its old name has to be changed. \
Deleting the volume deletes its data; `stockpot volume release` gives it back as it was.")]
pub(crate) struct VolumeAdoptArgs {
    /// VG/LV, or the path of its device.
    #[arg(value_name = "VG/LV")]
    pub(crate) source: String,
    /// Name of the volume [default: that of the logical volume].
    #[arg(long, value_name = "NAME", value_parser = parse_volume_name)]
    pub(crate) name: Option<String>,
    /// Note kept with the volume; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot volume release`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot volume release web-1
  stockpot volume release vol-1f0c22ab-01jd… --lv-name data-2

The volume must be detached, without snapshots on this node, and not be backed up meanwhile. Its copies in the cloud stay.")]
pub(crate) struct VolumeReleaseArgs {
    /// Its id or name.
    #[arg(value_name = "VOLUME")]
    pub(crate) id: String,
    /// Name of the logical volume from then on [default: the one it was adopted with, else the one it has].
    #[arg(long, value_name = "NAME")]
    pub(crate) lv_name: Option<String>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}
