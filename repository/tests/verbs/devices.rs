//! Sources and targets that are not as they should be. Block devices are tested where there are some to spare.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
};

use stockpot_repository::device::{
    AlignedBuffer, DeviceError, Source, SourceOptions, Target, TargetOptions,
};

const FORCE: TargetOptions = TargetOptions {
    force: true,
    zeroed: false,
};

fn open(path: &std::path::Path) -> Result<Source, DeviceError> {
    Source::open(path, SourceOptions::default())
}

#[test]
fn sources_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    assert!(matches!(open(&path), Err(DeviceError::Open { .. })));
    assert!(matches!(
        open(folder.path()),
        Err(DeviceError::Unsuitable {
            what: "a directory",
            ..
        })
    ));
    let null = std::path::Path::new("/dev/null");
    assert!(matches!(open(null), Err(DeviceError::Unsuitable { .. })));
    File::create(&path).unwrap();
    assert!(matches!(open(&path), Err(DeviceError::Empty { .. })));
}

#[test]
fn a_file_that_is_being_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    std::fs::write(&path, [1; 5000]).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, DeviceError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("--force"), "{error}");
    Source::open(&path, SourceOptions { force: true }).unwrap();
    let error = Target::open(&path, 5000, TargetOptions::default()).unwrap_err();
    assert!(matches!(error, DeviceError::InUse { .. }), "{error:?}");
    drop(writer);
    open(&path).unwrap();
}

/// The map of a file answers the same to whoever has asked before, in whatever order.
#[test]
fn the_order_of_questions_does_not_change_the_map() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let file = File::create(&path).unwrap();
    const UNIT: u64 = 64 << 10;
    let data = vec![7; 64 << 10];
    file.set_len(40 * UNIT).unwrap();
    for extent in [2..5, 9..10, 11..20, 30..33] {
        for unit in extent {
            file.write_all_at(&data, unit * UNIT).unwrap();
        }
    }
    drop(file);
    let asked_before = open(&path).unwrap();
    for step in [1, 7, 13, 39] {
        for number in 0..=40 {
            let from = number * step % 41 * UNIT + step;
            let fresh = open(&path).unwrap().next_data(from).unwrap();
            assert_eq!(asked_before.next_data(from).unwrap(), fresh, "{from}");
        }
    }
}

#[test]
fn odd_ends_are_read_and_filled_with_zeroes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let content: Vec<u8> = (0..10_001_u32).map(|i| (i % 250) as u8 + 1).collect();
    std::fs::write(&path, &content).unwrap();
    let source = open(&path).unwrap();
    let mut buffer = AlignedBuffer::new(16 << 10);
    buffer.fill(0xff);
    source.read_at(0, &mut buffer).unwrap();
    assert_eq!(&buffer[..10_001], content);
    assert!(buffer[10_001..].iter().all(|byte| *byte == 0));
    let mut unaligned = vec![0; 100];
    source.read_at(9_990, &mut unaligned).unwrap();
    assert_eq!(unaligned[..11], content[9_990..]);
}

#[test]
fn a_source_that_shrinks_or_changes_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    std::fs::write(&path, vec![1; 100_000]).unwrap();
    let source = open(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(50_000).unwrap();
    let mut buffer = AlignedBuffer::new(128 << 10);
    let error = source.read_at(0, &mut buffer).unwrap_err();
    assert!(matches!(error, DeviceError::Shrank { .. }), "{error:?}");
    assert!(matches!(
        source.check_unchanged(),
        Err(DeviceError::Shrank { .. })
    ));
    let source = Source::open(&path, SourceOptions { force: true }).unwrap();
    file.write_all_at(b"x", 7).unwrap();
    source.check_unchanged().unwrap();
    drop(file);
    let source = open(&path).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"more").unwrap();
    assert!(matches!(
        source.check_unchanged(),
        Err(DeviceError::Changed { .. })
    ));
}

#[test]
fn targets_that_are_refused_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    std::fs::write(&path, b"precious").unwrap();
    let error = Target::open(&path, 100, TargetOptions::default()).unwrap_err();
    assert!(matches!(error, DeviceError::NotEmpty { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let target = Target::open(&path, 100, FORCE).unwrap();
    target.write_at(90, &[7; 50]).unwrap();
    target.finish().unwrap();
    let mut expected = vec![0; 90];
    expected.extend([7; 10]);
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

#[test]
fn two_restores_do_not_mix_in_one_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    std::fs::write(&path, b"precious").unwrap();
    let first = Target::open(&path, 100, FORCE).unwrap();
    first.write_at(0, &[7; 100]).unwrap();
    let error = Target::open(&path, 50, FORCE).unwrap_err();
    assert!(matches!(error, DeviceError::Busy { .. }), "{error:?}");
    first.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [7; 100]);
    drop(Target::open(&path, 50, FORCE).unwrap());
}

#[test]
fn no_file_is_made_among_the_devices() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev", folder.path().join("link")).unwrap();
    for place in ["/dev", "/dev/../dev", "link"] {
        let path = folder.path().join(place).join("stockpot-test-none");
        let error = Target::open(&path, 100, TargetOptions::default()).unwrap_err();
        assert!(matches!(error, DeviceError::Unsuitable { .. }), "{error:?}");
        assert!(!path.exists());
    }
}

#[test]
fn an_unfinished_target_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let target = Target::open(&path, 100, TargetOptions::default()).unwrap();
    target.write_at(0, &[7; 50]).unwrap();
    drop(target);
    assert!(!path.exists());
    std::fs::write(&path, b"").unwrap();
    drop(Target::open(&path, 100, TargetOptions::default()).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    let nowhere = folder.path().join("no/such/folder");
    assert!(matches!(
        Target::open(nowhere, 100, TargetOptions::default()),
        Err(DeviceError::Open { .. })
    ));
}

/// What is in a folder, by name.
fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_gets_its_name_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let stale = format!(".volume.stockpot-partial-{}-0", std::process::id());
    std::fs::write(folder.path().join(&stale), b"of another").unwrap();
    let target = Target::open(&path, 100, TargetOptions::default()).unwrap();
    target.write_at(0, &[7; 50]).unwrap();
    assert!(!path.exists());
    assert_eq!(names(folder.path()).len(), 2);
    target.finish().unwrap();
    assert_eq!(names(folder.path()), [stale.as_str(), "volume"]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 100);
    // The longest name that there may be.
    let long = folder.path().join("n".repeat(255));
    let target = Target::open(&long, 100, TargetOptions::default()).unwrap();
    target.finish().unwrap();
    assert!(long.exists());
}

#[test]
fn a_name_taken_meanwhile_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let target = Target::open(&path, 100, TargetOptions::default()).unwrap();
    std::fs::write(&path, b"precious").unwrap();
    let error = target.finish().unwrap_err();
    assert!(matches!(error, DeviceError::Taken { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    assert_eq!(names(folder.path()), ["volume"]);
}

#[test]
fn what_was_put_in_the_place_of_an_unfinished_target_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let target = Target::open(&path, 100, TargetOptions::default()).unwrap();
    let partial = folder.path().join(&names(folder.path())[0]);
    let moved = folder.path().join("moved");
    std::fs::rename(&partial, &moved).unwrap();
    std::fs::write(&partial, b"precious").unwrap();
    std::fs::write(&path, b"precious too").unwrap();
    drop(target);
    assert_eq!(std::fs::read(&partial).unwrap(), b"precious");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious too");
    assert_eq!(std::fs::metadata(&moved).unwrap().len(), 0);
}

#[test]
fn a_link_to_nothing_is_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    std::os::unix::fs::symlink("nothing", &path).unwrap();
    let error = Target::open(&path, 100, TargetOptions::default()).unwrap_err();
    assert!(matches!(error, DeviceError::Unsuitable { .. }), "{error:?}");
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert_eq!(names(folder.path()), ["volume"]);
}
