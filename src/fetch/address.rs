//! Which addresses are on the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks that are not on the public internet: first address, length of the prefix. From the
/// IANA registry of special-purpose addresses, with multicast and what is reserved.
const V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // behind a carrier's translation
    ([127, 0, 0, 0], 8),     // this machine
    ([169, 254, 0, 0], 16),  // link-local, where clouds keep credentials
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 31, 196, 0], 24), // AS112
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// IPv6 blocks within 2000::/3, the global unicast space, that are not on the public internet or
/// carry an IPv4 address to who knows where. From the same registry.
const V6: [([u16; 2], u32); 5] = [
    ([0x2001, 0x0000], 23), // protocol assignments, Teredo
    ([0x2001, 0x0db8], 32), // documentation
    ([0x2002, 0x0000], 16), // 6to4
    ([0x2620, 0x004f], 32), // AS112
    ([0x3fff, 0x0000], 20), // documentation
];

/// Whether an address is on the public internet. IPv4 addresses written as IPv6 ones are not,
/// whatever they are: nobody has one for a public service.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let bits = u32::from(address);
            !V4.iter().any(|(first, len)| within(bits, u32::from(Ipv4Addr::from(*first)), *len))
        }
        IpAddr::V6(address) => {
            let [a, b, ..] = address.segments();
            let head = u32::from(a) << 16 | u32::from(b);
            // All blocks above are told by their first 32 bits.
            within(head, 0x2000_0000, 3)
                && !V6
                    .iter()
                    .any(|([a, b], len)| within(head, u32::from(*a) << 16 | u32::from(*b), *len))
                && !is_isatap(address)
        }
    }
}

fn within(bits: u32, first: u32, len: u32) -> bool {
    let mask = u32::MAX << (32 - len);
    bits & mask == first & mask
}

/// Whether the interface part carries an IPv4 address (RFC 5214): `::0:5efe:a.b.c.d`.
fn is_isatap(address: Ipv6Addr) -> bool {
    let [.., e, f, _, _] = address.segments();
    matches!(e, 0 | 0x0200) && f == 0x5efe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "2001:200::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "3fff::1",
            "4000::1",
            "2606:4700::5efe:10.0.0.1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }
}
