//! Whether an address can be listened on. The kernel's target does not say why it cannot, and takes addresses that
//! this host does not have.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use super::TargetError;

/// Checks that an interface of this host has the address, and where the kernel's target does not listen there yet
/// (`served`), that nobody else does.
pub(super) fn check(portal: SocketAddr, served: bool) -> Result<(), TargetError> {
    let port = if served { 0 } else { portal.port() };
    let mut address = portal;
    address.set_port(port);
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(TargetError::PortalInUse { portal })
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            Err(TargetError::PortalAddress { portal })
        }
        Err(error) => Err(TargetError::Host(format!(
            "cannot listen on {portal}: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_portal_cannot_be_listened_on_is_said() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let portal = held.local_addr().unwrap();
        assert!(matches!(
            check(portal, false),
            Err(TargetError::PortalInUse { .. })
        ));
        check(portal, true).unwrap();
        let elsewhere = "192.0.2.77:3260".parse().unwrap();
        assert!(matches!(
            check(elsewhere, false),
            Err(TargetError::PortalAddress { .. })
        ));
        drop(held);
        check(portal, false).unwrap();
    }
}
