//! Volumes and snapshots in LVM: in a thin pool, or as plain logical volumes with classic snapshots.
//!
//! Everything lies in LVM's own metadata: a logical volume of ours carries tags that say what it is (kind, id, source,
//! time of the cut), set by the very command that makes it. So a crash leaves either nothing or something that
//! is found again, and no database is needed. A logical volume without our tags is never touched.
//!
//! At rest nothing is active: volumes and snapshots carry LVM's activation-skip flag, and are activated by
//! `create_export*` and deactivated by `remove_export*`.
//!
//! | module | what it is |
//! | --- | --- |
//! | `thin` | the driver for thin pools |
//! | `thick` | the driver for plain logical volumes |
//! | `cow` | what changed since a classic snapshot was cut |
//! | [`live`] | a snapshot of any logical volume while it is read, without the driver |
//! | `pool` | the operations |
//! | `view` | what one report says of our pool, and what may be added to it |
//! | `delta` | which blocks of a snapshot hold data, and which changed |
//! | `guard` | how full the pool is, and making it larger |
//! | `dm`, `thin_xml` | device-mapper's commands and the thin tools', and what they print |
//! | `commands` | every LVM command that is ever run, with typed results |
//! | `report` | LVM's JSON report, parsed |
//! | `adopt`, `adopt_report` | logical volumes of others that become ours, and ours that are let go |
//! | [`LvName`] | `VG/LV` as people write it |
//! | `hints` | what people call what is about to be made |
//! | `names` | names and tags of our logical volumes |
//! | `ours` | our volumes and snapshots in a report |
//! | `replace` | a volume that takes another one's place |
//! | `lock` | one operation per volume group at a time |

mod adopt;
mod adopt_report;
mod commands;
mod cow;
mod delta;
mod dm;
mod guard;
mod hints;
pub mod live;
mod live_report;
mod lock;
mod lv_name;
mod names;
mod ours;
mod pool;
mod replace;
mod report;
mod thick;
mod thin;
mod thin_xml;
mod view;

pub use lv_name::LvName;
pub use thick::{LvmThickConfig, LvmThickDriver};
pub use thin::{LvmThinConfig, LvmThinDriver};
