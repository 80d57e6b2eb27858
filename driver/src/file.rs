//! Volumes and snapshots as sparse image files, attached as loop devices: the driver where there is no LVM.
//!
//! ```text
//! DIRECTORY/volumes/ID/image      the volume's bytes; the file's length is the volume's size
//! DIRECTORY/volumes/ID/meta.json  what it is
//! DIRECTORY/snapshots/ID/...      the same for a snapshot, made by sharing blocks (FICLONE)
//! DIRECTORY/.new-*, .gone-*       being made, being removed: debris after a crash, removed by `check`
//! DIRECTORY/.lock                 one operation at a time, among processes too
//! ```
//!
//! A volume comes into being, and goes, by the rename of its directory, after everything in it is on disk. So a
//! crash leaves either all of it or nothing but debris, and no database is needed. A directory that has no
//! `meta.json` of ours is never touched.
//!
//! | module | what it is |
//! | --- | --- |
//! | `driver` | the driver |
//! | `operations` | what its calls do |
//! | `store` | the directory: what is in it, what comes and goes |
//! | `meta` | what lies beside an image: which volume or snapshot it is |
//! | `sharing` | copies that share blocks; which parts of a file hold data |
//! | `changes` | which parts of two files do not share their blocks |
//! | `loopdev` | loop devices, found by the file behind them |
//! | `ioctl` | the system calls that the standard library has not |

mod changes;
mod driver;
mod ioctl;
mod loopdev;
mod meta;
mod operations;
mod sharing;
mod store;

pub use driver::{FileConfig, FileDriver};
