//! Loop devices of our images.
//!
//! A device is found by the file behind it (file system and inode), never by name: the kernel shortens names, and files
//! move. `autoclear` is not set, so a device lives until it is detached; it is gone after a reboot.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::libc::{EBUSY, EINVAL, ENXIO, O_CLOEXEC, O_EXCL};
use stockpot_mountinfo as mountinfo;

use super::ioctl::{self, AUTOCLEAR, DIRECT_IO, LoopInfo, READ_ONLY};
use crate::{
    DriverError,
    in_use::{self, Elsewhere, Opened},
};

/// The sector size that file systems see. 512 fits images that came from any disk; LVM's devices mostly say so too.
const BLOCK_BYTES: u32 = 512;

/// How often a free device is asked for: others may take it first.
const ATTEMPTS: u32 = 64;

/// How long a device's node may take to appear.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// A loop device that is bound to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoopDevice {
    pub(super) path: PathBuf,
    /// Major and minor number.
    pub(super) number: (u32, u32),
    pub(super) read_only: bool,
    /// It shows the whole file, and stays until it is detached: as we make it.
    plain: bool,
}

/// The loop devices bound to this file.
pub(super) fn find(image: &File) -> Result<Vec<LoopDevice>, DriverError> {
    let wanted = image
        .metadata()
        .map_err(fail("cannot stat", Path::new("an image")))?;
    let sys = Path::new("/sys/block");
    let entries = match std::fs::read_dir(sys) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail("cannot list", sys)(error)),
    };
    let mounts =
        std::fs::read(mountinfo::OWN).map_err(fail("cannot read", Path::new(mountinfo::OWN)))?;
    let ours = in_use::split(wanted.dev());
    let elsewhere = Elsewhere::of(&mounts, ours.as_slice());
    let mut found = Vec::new();
    for entry in entries.flatten() {
        // Only a bound device has this attribute, and only bound ones are opened. The kernel asks the file for its number when it is asked.
        let behind = match std::fs::read(entry.path().join("loop/backing_file")) {
            Ok(behind) => behind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // A name that is too long for sysfs.
            Err(_) => Vec::new(),
        };
        if elsewhere.has(Path::new(OsStr::from_bytes(behind.trim_ascii_end()))) {
            continue;
        }
        let path = Path::new("/dev").join(entry.file_name());
        let Some(info) = bound(&path)? else { continue };
        let numbers = std::fs::read_to_string(entry.path().join("dev")).unwrap_or_default();
        let number = numbers
            .trim()
            .split_once(':')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        if let (true, Some(number)) = (is_of(&info, &wanted), number) {
            found.push(LoopDevice {
                path,
                number,
                read_only: info.flags & READ_ONLY != 0,
                plain: info.offset == 0 && info.size_limit == 0 && info.flags & AUTOCLEAR == 0,
            });
        }
    }
    found.sort_by_key(|device| device.number);
    Ok(found)
}

/// The image's loop device with this access mode; made if there is none.
///
/// Two devices of one file would each have a cache, so one with another access mode is detached first.
pub(super) fn attach(
    image: &Path,
    read_only: bool,
    what: &dyn std::fmt::Display,
    patience: Duration,
) -> Result<LoopDevice, DriverError> {
    let file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(image)
        .map_err(fail("cannot open", image))?;
    for device in find(&file)? {
        if device.plain && device.read_only == read_only {
            return Ok(device);
        }
        detach_one(&file, &device, what, patience)?;
    }
    let control_path = Path::new("/dev/loop-control");
    let control = open(control_path, 0).map_err(no_loop_devices)?;
    for _ in 0..ATTEMPTS {
        let number = ioctl::free_loop(&control).map_err(no_loop_devices)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open_node(&path)?;
        match bind(&device, &file, image, read_only) {
            Err(error) if error.raw_os_error() == Some(EBUSY) => continue,
            Err(error) => return Err(fail("cannot bind an image to", &path)(error)),
            Ok(()) => {}
        }
        return find(&file)?
            .into_iter()
            .find(|device| device.path == path)
            .ok_or_else(|| DriverError::Unexpected {
                doing: "binding a loop device".into(),
                answer: format!("{} is not bound to {}", path.display(), image.display()),
            });
    }
    Err(DriverError::ResourceExhausted(format!(
        "no loop device was free in {ATTEMPTS} attempts"
    )))
}

/// Detaches every loop device of an image; none is success.
pub(super) fn detach(
    image: &Path,
    what: &dyn std::fmt::Display,
    patience: Duration,
) -> Result<(), DriverError> {
    let file = File::open(image).map_err(fail("cannot open", image))?;
    for device in find(&file)? {
        detach_one(&file, &device, what, patience)?;
    }
    Ok(())
}

/// Who holds one of the image's loop devices; `None` if nobody does, or there is none.
pub(super) fn holder(image: &Path) -> Result<Option<String>, DriverError> {
    let file = File::open(image).map_err(fail("cannot open", image))?;
    let held = find(&file)?.into_iter().find(is_claimed);
    Ok(held.map(|device| in_use::holders(device.number)))
}

/// Who uses an image: who holds one of its loop devices, or has that or the image itself open. `None` if nobody does for this long:
/// udev looks into every device that was just written.
///
/// The kernel tells of a loop device only whether it is claimed. A program that opens it like any file, as a database does, claims
/// nothing; so it is looked for among the open files of all programs.
pub(super) fn user(image: &Path, patience: Duration) -> Result<Option<String>, DriverError> {
    let file = File::open(image).map_err(fail("cannot open", image))?;
    let metadata = file.metadata().map_err(fail("cannot stat", image))?;
    let started = Instant::now();
    loop {
        let devices = find(&file)?;
        if let Some(held) = devices.iter().find(|device| is_claimed(device)) {
            return Ok(Some(in_use::holders(held.number)));
        }
        let mut wanted = vec![Opened::file(&metadata)];
        let mut by = Vec::new();
        for device in &devices {
            wanted.push(Opened::Device(device.number));
            let over = in_use::unclaimed(device.number);
            by.extend(over.map_err(fail("cannot look who uses", &device.path))?);
        }
        by.extend(in_use::openers(&wanted));
        if by.is_empty() {
            return Ok(None);
        }
        if started.elapsed() >= patience {
            return Ok(Some(by.join(", ")));
        }
        sleep(POLL);
    }
}

/// Makes the image's loop devices as large as the image.
pub(super) fn update_size(image: &Path) -> Result<(), DriverError> {
    let file = File::open(image).map_err(fail("cannot open", image))?;
    for device in find(&file)? {
        open(&device.path, 0)
            .and_then(|open| ioctl::update_loop_size(&open))
            .map_err(fail("cannot resize", &device.path))?;
    }
    Ok(())
}

/// Writes out what is cached above the image: file systems mounted from its loop device, then the device's own cache.
pub(super) fn flush(image: &Path) -> Result<(), DriverError> {
    let file = File::open(image).map_err(fail("cannot open", image))?;
    for device in find(&file)?.iter().filter(|device| !device.read_only) {
        for point in in_use::mounts(device.number) {
            let point = Path::new(&point);
            File::open(point)
                .and_then(|open| Ok(nix::unistd::syncfs(open)?))
                .map_err(fail("cannot write out", point))?;
        }
        open(&device.path, 0)
            .and_then(|open| open.sync_all())
            .map_err(fail("cannot write out", &device.path))?;
    }
    Ok(())
}

/// Binds a device to a file, past the page cache where the file system below allows that.
fn bind(device: &File, file: &File, image: &Path, read_only: bool) -> io::Result<()> {
    let mut name = [0; 64];
    let text = image.as_os_str().as_bytes();
    // One byte stays zero: the kernel wants a terminated string. It is for people only.
    let shown = &text[text.len().saturating_sub(name.len() - 1)..];
    name[..shown.len()].copy_from_slice(shown);
    let flags = if read_only { READ_ONLY } else { 0 };
    match ioctl::configure_loop(device, file, name, BLOCK_BYTES, flags | DIRECT_IO) {
        Err(error) if error.raw_os_error() == Some(EINVAL) => {
            ioctl::configure_loop(device, file, name, BLOCK_BYTES, flags)
        }
        done => done,
    }
}

/// Unbinds a device, unless somebody has it open for longer than a moment.
fn detach_one(
    image: &File,
    device: &LoopDevice,
    what: &dyn std::fmt::Display,
    patience: Duration,
) -> Result<(), DriverError> {
    let in_use = || DriverError::InUse {
        what: what.to_string(),
        by: format!(
            "{} is {}",
            device.path.display(),
            in_use::holders(device.number)
        ),
    };
    let wanted = image
        .metadata()
        .map_err(fail("cannot stat", &device.path))?;
    let started = Instant::now();
    let patient = || started.elapsed() < patience;
    while is_claimed(device) {
        if !patient() {
            return Err(in_use());
        }
        sleep(POLL);
    }
    let still = || Ok::<_, DriverError>(bound(&device.path)?.filter(|info| is_of(info, &wanted)));
    let unbind = || ioctl::unbind_loop(&open(&device.path, 0)?);
    if still()?.is_none() {
        return Ok(());
    }
    match unbind() {
        Err(error) if error.raw_os_error() != Some(ENXIO) => {
            return Err(fail("cannot detach", &device.path)(error));
        }
        _ => {}
    }
    while let Some(mut info) = still()? {
        if !patient() {
            // Somebody holds it open. Without this it would vanish under the next user when that one lets go.
            info.flags &= !AUTOCLEAR;
            open(&device.path, 0)
                .and_then(|open| ioctl::set_loop_info(&open, &info))
                .map_err(fail("cannot keep", &device.path))?;
            return Err(in_use());
        }
        sleep(POLL);
    }
    Ok(())
}

/// Whether a mount, another device or a program holds the device exclusively.
fn is_claimed(device: &LoopDevice) -> bool {
    open(&device.path, O_EXCL).is_err_and(|error| error.raw_os_error() == Some(EBUSY))
}

/// What a device is bound to; `None` if to nothing, or if it is gone.
fn bound(path: &Path) -> Result<Option<LoopInfo>, DriverError> {
    match open(path, 0).and_then(|device| ioctl::loop_info(&device)) {
        Ok(info) => Ok(Some(info)),
        Err(error)
            if error.raw_os_error() == Some(ENXIO) || error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(fail("cannot ask", path)(error)),
    }
}

/// The kernel reports the same encoding of the device number as `stat` does.
fn is_of(info: &LoopInfo, image: &std::fs::Metadata) -> bool {
    (info.device, info.inode) == (image.dev(), image.ino())
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_CLOEXEC | flags)
        .open(path)
}

/// Opens a device whose node udev or the kernel may just be making.
fn open_node(path: &Path) -> Result<File, DriverError> {
    let started = Instant::now();
    loop {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && started.elapsed() < PATIENCE =>
            {
                sleep(POLL);
            }
            opened => return opened.map_err(fail("cannot open", path)),
        }
    }
}

fn no_loop_devices(error: io::Error) -> DriverError {
    DriverError::Host(format!(
        "loop devices cannot be made ({error}): load the module `loop`, and run as root"
    ))
}

fn fail(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DriverError + Clone {
    let path = path.to_owned();
    move |source| DriverError::Io {
        doing,
        path,
        source,
    }
}
