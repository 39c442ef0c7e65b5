//! Addresses of netlink sockets as scripts write them: `pid=0;groups=0`.
//!
//! Both parts may be left out, and are 0 then: the kernel as a peer, any port and no group as an own address.

use pipy_pipeline::NetlinkAddress;

/// What an address looks like, for messages.
pub(super) const EXPECTED: &str = "a netlink address such as 'pid=0;groups=1'";

/// Reads an address.
pub(super) fn address(text: &str) -> Option<NetlinkAddress> {
    let mut address = NetlinkAddress::default();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().parse().ok()?;
        match name.trim() {
            "pid" => address.pid = value,
            "groups" => address.groups = value,
            _ => return None,
        }
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port_and_groups() {
        assert_eq!(address("pid=0;groups=1361"), Some(NetlinkAddress { pid: 0, groups: 1361 }));
        assert_eq!(
            address(" groups = 4294967295 ; pid=7"),
            Some(NetlinkAddress { pid: 7, groups: u32::MAX })
        );
        assert_eq!(address(""), Some(NetlinkAddress::default()));
        for bad in ["kernel", "pid=-1", "groups=4294967296", "port=1", "localhost:80"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
