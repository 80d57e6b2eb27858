//! Volume groups of tests, in the test host.

#![expect(clippy::unwrap_used, reason = "a failing helper fails the test")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use stockpot_test_fixtures::image::{Fill, Image, length};
use stockpot_test_fixtures::leak::LeakCheck;
use stockpot_test_fixtures::vg::{TAG, ThrowAwayVg, test_disks};

#[expect(clippy::disallowed_methods, reason = "a test")]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// One test: the leak check sees whatever the whole machine does.
#[test]
fn a_group_comes_and_goes() {
    let leaks = LeakCheck::start();
    {
        let first = ThrowAwayVg::new(512 << 20).unwrap();
        let second = ThrowAwayVg::new(256 << 20).unwrap();
        assert_ne!(first.name(), second.name());
        let tags = run("vgs", &["--noheadings", "-o", "vg_tags", first.name()]);
        assert_eq!(tags.trim(), TAG);
        let pool = format!("{}/{}", first.name(), ThrowAwayVg::POOL);
        run(
            "lvcreate",
            &[
                "--yes",
                "--type",
                "thin",
                "--virtualsize",
                "1g",
                "--thinpool",
                &pool,
                "--name",
                "v",
            ],
        );
        let path = format!("/dev/{}/v", first.name());
        let device = File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!(length(&device).unwrap(), 1 << 30);
        let image = Image::new(1 << 30).extent(1 << 20, 1 << 20, Fill::Random(1));
        image.write_extents(&device).unwrap();
        assert_eq!(image.first_difference(path.as_ref()).unwrap(), None);
        device.write_all_at(b"x", 7).unwrap();
        assert_eq!(image.first_difference(path.as_ref()).unwrap(), Some(7));
        drop(device);
        assert!(!leaks.differences().is_empty());
    }
    leaks.assert_clean();
    for disk in test_disks() {
        assert!(disk.exists(), "{}", disk.display());
    }
}
