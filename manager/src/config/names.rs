//! What may be the name of a node, and of a socket.

use std::{os::unix::ffi::OsStrExt, path::Path};

/// Longest name of a node, in bytes (CSI specification, `NodeGetInfo`).
const NODE_NAME_BYTES_MAX: usize = 192;
/// Longest path of a unix socket that Linux takes, in bytes, without the final zero (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Whether a node of this name can have a certificate: there it stands as a DNS name, and nowhere is one taken for another.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(sound)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    name.len() <= NODE_NAME_BYTES_MAX && !is_address && name.split('.').all(is_label)
}

/// Whether a socket can have this path. It is made under another name beside it first, which has to be short enough as well.
#[must_use]
pub fn is_socket_path(path: &Path) -> bool {
    let fits = |path: &Path| path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX;
    fits(path) && fits(&path.with_extension("new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_and_sockets() {
        for good in ["worker-1", "storage-1.example.net", "1a"] {
            assert!(is_node_name(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "worker_1",
            "-a",
            "a-",
            "a..b",
            "192.0.2.1",
            "a b",
            &long,
        ] {
            assert!(!is_node_name(bad), "{bad}");
        }
        let path = |name: usize| format!("/{}", "s".repeat(name - 1));
        assert!(is_socket_path(Path::new(&path(103))));
        for bad in [104, 108] {
            assert!(!is_socket_path(Path::new(&path(bad))), "{bad}");
        }
        let sock = format!("{}.sock", path(102));
        assert!(is_socket_path(Path::new(&sock)));
    }
}
