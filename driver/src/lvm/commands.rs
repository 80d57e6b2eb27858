//! Every LVM command that Stockpot runs.
//!
//! Each is one `lvm` process: `LC_ALL=C`, JSON reports in bytes, a deadline, never killed half-way. A command that a
//! signal ended (LVM has died of SIGSEGV under memory pressure) is run again; the callers look at the result
//! afterwards, so a first run that did its work before it died is no harm. Without a udev daemon (in a container)
//! LVM makes the device nodes itself, for its wait for udev would never end.

use std::{path::Path, time::Duration};

use stockpot_command::{Command, CommandError, Exit, Output};

use super::{
    adopt_report,
    live_report::{self, LiveLv},
    report::{self, Report},
};
use crate::DriverError;

const DEADLINE: Duration = Duration::from_secs(180);

/// How often a command that a signal ended is run in all.
const ATTEMPTS: u32 = 3;

const UDEV_SOCKET: &str = "/run/udev/control";

/// Whether a new logical volume accepts writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Permission {
    ReadWrite,
    ReadOnly,
}

/// Looks at a volume group, all in one command.
pub(super) async fn full_report(vg: &str) -> Result<Report, DriverError> {
    let doing = || format!("cannot read volume group {vg}");
    let mut args = vec!["fullreport".to_owned()];
    args.extend(["--reportformat", "json", "--units", "b", "--nosuffix"].map(str::to_owned));
    for (report, columns) in report::COLUMNS {
        args.extend(["--configreport", report, "-o", columns].map(str::to_owned));
    }
    args.push(vg.to_owned());
    let output = lvm(&args)
        .await
        .map_err(|e| DriverError::command(doing(), e))?;
    let missing = format!("Volume group \"{vg}\" not found");
    if output.exit != Exit::Code(0) {
        if output.stderr.contains(&missing) {
            return Err(no_such_vg(vg));
        }
        return Err(failed(doing(), &args, output));
    }
    report::parse(&output.stdout, vg)
        .map_err(|answer| DriverError::Unexpected {
            doing: format!("reading LVM's report on {vg}"),
            answer,
        })?
        .ok_or_else(|| no_such_vg(vg))
}

/// Makes a thin pool that zeroes new blocks.
pub(super) async fn create_pool(vg: &str, pool: &str, size_bytes: u64) -> Result<(), DriverError> {
    let args =
        format!("lvcreate --yes --type thin-pool --zero y --size {size_bytes}b --name {pool} {vg}");
    run(format!("cannot create thin pool {vg}/{pool}"), words(&args)).await
}

/// Makes an empty thin volume, inactive, tagged by the same command.
pub(super) async fn create_thin(
    vg: &str,
    pool: &str,
    name: &str,
    size_bytes: u64,
    tags: &[String],
) -> Result<(), DriverError> {
    let args = format!(
        "lvcreate --yes --type thin --virtualsize {size_bytes}b --thinpool {vg}/{pool} --name {name} \
         --wipesignatures n --activate n --setactivationskip y"
    );
    run(format!("cannot create {vg}/{name}"), tagged(&args, tags)).await
}

/// Makes a thin snapshot of a logical volume, inactive, tagged by the same command.
pub(super) async fn create_snapshot(
    vg: &str,
    origin: &str,
    name: &str,
    permission: Permission,
    tags: &[String],
) -> Result<(), DriverError> {
    let permission = match permission {
        Permission::ReadWrite => "rw",
        Permission::ReadOnly => "r",
    };
    let args = format!(
        "lvcreate --yes --snapshot --name {name} --permission {permission} --activate n \
         --setactivationskip y {vg}/{origin}"
    );
    run(
        format!("cannot snapshot {vg}/{origin} as {name}"),
        tagged(&args, tags),
    )
    .await
}

/// Grows a logical volume, active or not.
pub(super) async fn extend(vg: &str, name: &str, size_bytes: u64) -> Result<(), DriverError> {
    let args = format!("lvextend --size {size_bytes}b {vg}/{name}");
    run(format!("cannot extend {vg}/{name}"), words(&args)).await
}

/// Grows a thin pool's data by this much, while it is in use.
pub(super) async fn grow_pool_data(vg: &str, pool: &str, by_bytes: u64) -> Result<(), DriverError> {
    let args = format!("lvextend --yes --size +{by_bytes}b {vg}/{pool}");
    run(format!("cannot extend thin pool {vg}/{pool}"), words(&args)).await
}

/// Grows a thin pool's metadata by this much, while it is in use.
pub(super) async fn grow_pool_metadata(
    vg: &str,
    pool: &str,
    by_bytes: u64,
) -> Result<(), DriverError> {
    let args = format!("lvextend --yes --poolmetadatasize +{by_bytes}b {vg}/{pool}");
    let doing = format!("cannot extend the metadata of thin pool {vg}/{pool}");
    run(doing, words(&args)).await
}

/// Gives a logical volume another name.
pub(super) async fn rename(vg: &str, name: &str, to: &str) -> Result<(), DriverError> {
    let args = format!("lvrename {vg} {name} {to}");
    run(format!("cannot rename {vg}/{name} to {to}"), words(&args)).await
}

/// Adds tags.
pub(super) async fn add_tags(vg: &str, name: &str, tags: &[String]) -> Result<(), DriverError> {
    change_tags(vg, name, "--addtag", tags).await
}

/// Removes tags, in this order.
pub(super) async fn remove_tags(vg: &str, name: &str, tags: &[String]) -> Result<(), DriverError> {
    change_tags(vg, name, "--deltag", tags).await
}

async fn change_tags(
    vg: &str,
    name: &str,
    option: &str,
    tags: &[String],
) -> Result<(), DriverError> {
    let tags: String = tags.iter().map(|tag| format!("{option} {tag} ")).collect();
    let args = format!("lvchange {tags} {vg}/{name}");
    run(format!("cannot tag {vg}/{name}"), words(&args)).await
}

/// Activates a logical volume, its activation-skip flag notwithstanding.
pub(super) async fn activate(vg: &str, name: &str) -> Result<(), DriverError> {
    let args = format!("lvchange --yes --activate y --ignoreactivationskip {vg}/{name}");
    run(format!("cannot activate {vg}/{name}"), words(&args)).await
}

/// Deactivates a logical volume; LVM itself waits some seconds for a device that is open only for a moment.
pub(super) async fn deactivate(vg: &str, name: &str) -> Result<(), DriverError> {
    let args = format!("lvchange --activate n {vg}/{name}");
    run(format!("cannot deactivate {vg}/{name}"), words(&args)).await
}

/// Loads a logical volume's table anew and resumes it.
pub(super) async fn refresh(vg: &str, name: &str) -> Result<(), DriverError> {
    let args = format!("lvchange --refresh {vg}/{name}");
    run(format!("cannot resume {vg}/{name}"), words(&args)).await
}

/// Removes an inactive logical volume.
pub(super) async fn remove(vg: &str, name: &str) -> Result<(), DriverError> {
    let args = format!("lvremove --yes {vg}/{name}");
    run(format!("cannot remove {vg}/{name}"), words(&args)).await
}

/// The same, but its extents are not discarded, whatever `devices/issue_discards` in `lvm.conf` says: what was written to
/// them is to stay.
pub(super) async fn remove_undiscarded(vg: &str, name: &str) -> Result<(), DriverError> {
    let args = format!("lvremove --yes {vg}/{name}");
    let doing = format!("cannot remove {vg}/{name}");
    run_configured(doing, words(&args), "devices{issue_discards=0}").await
}

/// Looks at one logical volume by its device's path.
pub(super) async fn live_volume(path: &Path) -> Result<Option<LiveLv>, DriverError> {
    let doing = format!("cannot ask LVM about {}", path.display());
    let rows = lvs(&doing, &[path.to_string_lossy().into_owned()]).await?;
    rows.into_iter()
        .next()
        .map(live_report::Row::parse)
        .transpose()
        .map_err(|answer| DriverError::Unexpected { doing, answer })
}

/// Name and tags of the logical volumes of a group that have a tag starting with `tag`.
pub(super) async fn temporaries(vg: &str, tag: &str) -> Result<Vec<(String, String)>, DriverError> {
    let rows = lvs(&format!("cannot list {vg}"), &[vg.to_owned()]).await?;
    Ok(rows
        .into_iter()
        .filter(|row| row.lv_tags.split(',').any(|have| have.starts_with(tag)))
        .map(|row| (row.lv_name, row.lv_tags))
        .collect())
}

/// Every logical volume of a group, the hidden ones too, with all that decides whether one can be adopted.
pub(super) async fn adoptable(vg: &str) -> Result<Vec<adopt_report::Row>, DriverError> {
    let doing = format!("cannot list volume group {vg}");
    let mut args = words("lvs --all --reportformat json --units b --nosuffix -o");
    args.extend([adopt_report::COLUMNS.to_owned(), vg.to_owned()]);
    let output = lvm(&args)
        .await
        .map_err(|source| DriverError::command(doing.clone(), source))?;
    if output.exit != Exit::Code(0) {
        return Err(failed(doing, &args, output));
    }
    adopt_report::rows(&output.stdout).map_err(|answer| DriverError::Unexpected { doing, answer })
}

/// Takes tags away, and the activation-skip flag with them: all, or nothing.
pub(super) async fn let_go(vg: &str, name: &str, tags: &[String]) -> Result<(), DriverError> {
    let mut args = words("lvchange --setactivationskip n");
    for tag in tags {
        args.extend(["--deltag".to_owned(), tag.clone()]);
    }
    args.push(format!("{vg}/{name}"));
    run(format!("cannot let {vg}/{name} go"), args).await
}

/// Whether a classic snapshot's room for changes ran out.
pub(super) async fn snapshot_overflowed(vg: &str, name: &str) -> Result<bool, DriverError> {
    let doing = format!("cannot check {vg}/{name}");
    let rows = lvs(&doing, &[format!("{vg}/{name}")]).await?;
    match rows.first().map(|row| row.lv_snapshot_invalid.as_str()) {
        Some("") => Ok(false),
        Some("snapshot invalid" | "1") => Ok(true),
        other => Err(DriverError::Unexpected {
            doing,
            answer: format!("lv_snapshot_invalid is {other:?}"),
        }),
    }
}

/// Makes a read-only snapshot, active, tagged by the same command; `cow_bytes` of room for a classic one.
pub(super) async fn create_temporary(
    vg: &str,
    origin: &str,
    name: &str,
    cow_bytes: Option<u64>,
    tag: &str,
) -> Result<(), DriverError> {
    let size = cow_bytes.map_or_else(String::new, |bytes| format!("--size {bytes}b"));
    // Only thin snapshots know the activation-skip flag.
    let skip = if cow_bytes.is_none() {
        "--setactivationskip n"
    } else {
        ""
    };
    let args = format!(
        "lvcreate --yes --snapshot {size} {skip} --permission r --addtag {tag} --name {name} {vg}/{origin}"
    );
    run(format!("cannot snapshot {vg}/{origin}"), words(&args)).await
}

/// Removes a temporary snapshot, active or not. One that is not there is success.
pub(super) async fn remove_temporary(vg: &str, name: &str) -> Result<(), DriverError> {
    let doing = format!("cannot remove {vg}/{name}");
    let rows = lvs(&format!("cannot list {vg}"), &[vg.to_owned()]).await?;
    if !rows.iter().any(|row| row.lv_name == name) {
        return Ok(());
    }
    run(doing, words(&format!("lvremove --yes {vg}/{name}"))).await
}

async fn lvs(doing: &str, targets: &[String]) -> Result<Vec<live_report::Row>, DriverError> {
    let mut args = words("lvs --reportformat json --units b --nosuffix -o");
    args.push(live_report::COLUMNS.to_owned());
    args.extend_from_slice(targets);
    let output = lvm(&args)
        .await
        .map_err(|e| DriverError::command(doing.to_owned(), e))?;
    if output.exit != Exit::Code(0) {
        return Err(failed(doing.to_owned(), &args, output));
    }
    live_report::rows(&output.stdout).map_err(|answer| DriverError::Unexpected {
        doing: doing.to_owned(),
        answer,
    })
}

/// Runs a changing command and turns what LVM says into what the caller can do about it.
pub(super) async fn run(doing: String, args: Vec<String>) -> Result<(), DriverError> {
    run_configured(doing, args, "").await
}

/// The same with settings in place of those in `lvm.conf`.
async fn run_configured(doing: String, args: Vec<String>, config: &str) -> Result<(), DriverError> {
    let output = match lvm_configured(&args, config).await {
        Ok(output) => output,
        Err(source) => return Err(DriverError::command(doing, source)),
    };
    if output.exit == Exit::Code(0) {
        return Ok(());
    }
    let says = |texts: &[&str]| texts.iter().any(|text| output.stderr.contains(text));
    if says(&["in use", "is used by another device"]) {
        return Err(DriverError::InUse {
            what: args.last().cloned().unwrap_or_default(),
            by: output.stderr,
        });
    }
    if says(&[
        "insufficient free space",
        "Insufficient free space",
        "No space left",
        "free space in volume group",
    ]) {
        return Err(DriverError::ResourceExhausted(format!(
            "{doing}: {}",
            output.stderr
        )));
    }
    // Beside it LVM says that it failed to write: the disk is sound.
    if says(&["too large for circular buffer"]) {
        let vg = args.last().and_then(|target| target.split('/').next());
        return Err(DriverError::ResourceExhausted(format!(
            "{doing}: the metadata area of the volume group is full: {}; LVM says: {}",
            report::what_to_do_about_metadata(vg.unwrap_or_default()),
            output.stderr
        )));
    }
    if let Some(advice) = advice(&output.stderr) {
        return Err(DriverError::Host(format!(
            "{doing}: {advice}; LVM says: {}",
            output.stderr
        )));
    }
    Err(failed(doing, &args, output))
}

/// What to do about a volume group that takes no changes at all.
fn advice(stderr: &str) -> Option<&'static str> {
    let known = [
        (
            "is exported",
            "its volume group was given away with vgexport; take it back with vgimport, or name another one",
        ),
        (
            "while PVs are missing",
            "a disk of its volume group is missing; bring it back, or give it up with vgreduce --removemissing",
        ),
        (
            "Failed to write",
            "a disk of its volume group cannot be written to; see whether it is read-only or broken",
        ),
    ];
    let found = known.iter().find(|(says, _)| stderr.contains(says));
    found.map(|(_, advice)| *advice)
}

/// Runs one `lvm` command, again if a signal ended it.
pub(super) async fn lvm(args: &[String]) -> Result<Output, CommandError> {
    lvm_configured(args, "").await
}

async fn lvm_configured(args: &[String], config: &str) -> Result<Output, CommandError> {
    let mut config = config.to_owned();
    if !Path::new(UDEV_SOCKET).exists() {
        config.push_str(" activation{udev_sync=0 udev_rules=0}");
    }
    let mut attempt = 1;
    loop {
        let mut command = Command::new("lvm")
            .package("lvm2")
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .deadline(DEADLINE)
            .gentle()
            .args(args);
        if !config.is_empty() {
            command = command.args(["--config", config.trim()]);
        }
        let output = command.output().await?;
        let died = matches!(output.exit, Exit::Signal(_) | Exit::Code(139));
        if !died || attempt == ATTEMPTS {
            return Ok(output);
        }
        tracing::warn!(command = %args.join(" "), exit = %output.exit, attempt, "LVM died, running it again");
        attempt += 1;
    }
}

pub(super) fn failed(doing: String, args: &[String], output: Output) -> DriverError {
    DriverError::Command {
        doing,
        source: CommandError::Failed {
            command: format!("lvm {}", args.join(" ")),
            exit: output.exit,
            stderr: output.stderr,
        },
    }
}

fn no_such_vg(vg: &str) -> DriverError {
    DriverError::Host(format!(
        "volume group {vg} does not exist; bring its disks back, or name another one"
    ))
}

/// Splits a command line of ours; none of the names in it can hold a blank (`names::is_lvm_name`).
pub(super) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// The command line and one `--addtag` for each tag, the target staying last.
pub(super) fn tagged(line: &str, tags: &[String]) -> Vec<String> {
    let mut args = words(line);
    let options = tags.iter().flat_map(|tag| ["--addtag".into(), tag.clone()]);
    args.splice(1..1, options);
    args
}
