//! Where programs are looked for.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The directories searched for a program, in this order; the caller's `PATH` is never asked.
pub const SEARCH_DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// The absolute path of a program, or `None` if it is not installed.
#[must_use]
pub fn find_program(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.is_absolute() {
        return is_executable(program).then(|| program.to_owned());
    }
    // A relative path with a slash would depend on the working directory.
    if program.components().count() != 1 {
        return None;
    }
    SEARCH_DIRECTORIES
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_name_and_by_absolute_path_only() {
        let sh = find_program("sh").unwrap();
        assert!(sh.is_absolute());
        assert_eq!(find_program(&sh), Some(sh));
        for none in [
            "",
            "no-such-program-here",
            "bin/sh",
            "../bin/sh",
            "/etc",
            "/etc/passwd",
        ] {
            assert_eq!(find_program(none), None, "{none}");
        }
    }
}
