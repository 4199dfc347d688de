//! IP addresses as `cidr` and plain strings compare them.
//!
//! What counts as an address is what the reference engine (aws/event-ruler, `CIDR`) lets Java read: four decimal
//! numbers, leading zeros allowed, or the colon form without dots and zones. An IPv4 address mapped into IPv6 is the
//! IPv4 address.
//!
//! Invariant: two spellings are equal exactly if they are the same address.

/// An address of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    V4(u32),
    V6(u128),
}

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    base: Address,
    bits: u32,
}

/// Java reads no longer text as an IPv4 address.
const V4_LENGTH_MAX: usize = 15;

impl Address {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match text.contains(&b':') {
            true => Self::parse_v6(text),
            false => Self::parse_v4(text),
        }
    }

    fn parse_v4(text: &[u8]) -> Option<Self> {
        if text.len() > V4_LENGTH_MAX {
            return None;
        }
        let mut address = 0;
        let mut parts = 0;
        for part in text.split(|it| *it == b'.') {
            parts += 1;
            address = address << 8 | u32::from(decimal(part)?);
        }
        (parts == 4).then_some(Self::V4(address))
    }

    fn parse_v6(text: &[u8]) -> Option<Self> {
        let gap = text.windows(2).position(|it| it == b"::");
        let address = match gap {
            None => {
                let (address, groups) = groups(text)?;
                (groups == 8).then_some(address)?
            }
            Some(at) => {
                let (head, tail) = (text.get(..at)?, text.get(at + 2..)?);
                let (head, head_groups) = groups(head)?;
                let (tail, tail_groups) = groups(tail)?;
                let missing = 8_u32.checked_sub(head_groups + tail_groups)?;
                if missing == 0 {
                    return None;
                }
                match head_groups {
                    0 => tail,
                    _ => head << (16 * (8 - head_groups)) | tail,
                }
            }
        };
        Some(match u32::try_from(address & 0xffff_ffff) {
            Ok(mapped) if address >> 32 == 0xffff => Self::V4(mapped),
            _ => Self::V6(address),
        })
    }
}

impl Network {
    /// Reads `address/bits`. A network of one address is refused, as is IPv4 mapped into IPv6.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, bits) = text
            .split_once('/')
            .ok_or("must be an address and the number of its leading bits, as 10.0.0.0/8")?;
        let base = Address::parse(address.as_bytes()).ok_or("does not begin with an IP address")?;
        let bits: u32 = bits
            .parse()
            .map_err(|_| "needs a number of leading bits behind the slash")?;
        match base {
            Address::V4(_) if address.contains(':') => {
                Err("maps IPv4 into IPv6; write the IPv4 network")
            }
            Address::V4(_) if bits > 31 => Err("may fix 31 bits at most; write the address alone"),
            Address::V6(_) if bits > 127 => {
                Err("may fix 127 bits at most; write the address alone")
            }
            _ => Ok(Self { base, bits }),
        }
    }

    pub(super) fn contains(&self, address: Address) -> bool {
        match (self.base, address) {
            (Address::V4(base), Address::V4(address)) => {
                self.bits == 0 || (base ^ address) >> (32 - self.bits) == 0
            }
            (Address::V6(base), Address::V6(address)) => {
                self.bits == 0 || (base ^ address) >> (128 - self.bits) == 0
            }
            _ => false,
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u8> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u8, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Groups of hexadecimal digits between colons, and how many there are.
fn groups(text: &[u8]) -> Option<(u128, u32)> {
    if text.is_empty() {
        return Some((0, 0));
    }
    let mut address = 0;
    let mut count = 0;
    for group in text.split(|it| *it == b':') {
        count += 1;
        if group.is_empty() || group.len() > 4 || count > 8 {
            return None;
        }
        for digit in group {
            let digit = char::from(*digit).to_digit(16)?;
            address = address << 4 | u128::from(digit);
        }
        // Four digits a group, however few are written.
        address = regroup(address, group.len());
    }
    Some((address, count))
}

/// Moves the last group, which was shifted in by `digits` digits, to where it belongs.
fn regroup(address: u128, digits: usize) -> u128 {
    let shift = 4 * digits;
    let (before, group) = (address >> shift, address & ((1 << shift) - 1));
    before << 16 | group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) {
        let parsed = Address::parse(one.as_bytes());
        assert!(parsed.is_some(), "{one}");
        assert_eq!(parsed, Address::parse(other.as_bytes()), "{one} {other}");
    }

    #[test]
    fn an_address_has_many_spellings() {
        same("10.0.0.1", "010.0.0.1");
        same("::1", "0:0:0:0:0:0:0:1");
        same("::", "0:0:0:0:0:0:0:0");
        same(
            "2001:db8::FF00:42:8329",
            "2001:0db8:0000:0000:0000:ff00:0042:8329",
        );
        same("fe80::", "fe80:0:0:0:0:0:0:0");
        same("::ffff:a00:1", "10.0.0.1");
    }

    #[test]
    fn other_text_is_none() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0.1",
            "10.0.0.256",
            "10.0.0.-1",
            "10..0.1",
            "a.b.c.d",
            ":",
            ":::",
            "1::2::3",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "12345::",
            "::g",
            "::1.2.3.4",
            "1:2:3:4:5:6:7::8",
            "0000010.0.0.0.01",
            "fe80::1%eth0",
            " 10.0.0.1",
        ] {
            assert_eq!(Address::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_network_contains_what_begins_with_its_bits() {
        let check = |network: &str, inside: &[&str], outside: &[&str]| {
            let network = Network::parse(network).unwrap();
            for (text, expected) in inside
                .iter()
                .map(|it| (it, true))
                .chain(outside.iter().map(|it| (it, false)))
            {
                let address = Address::parse(text.as_bytes()).unwrap();
                assert_eq!(network.contains(address), expected, "{network:?} {text}");
            }
        };
        check(
            "10.0.0.7/24",
            &["10.0.0.0", "10.0.0.255", "::ffff:a00:1"],
            &["10.0.1.0", "9.255.255.255", "::1"],
        );
        check(
            "10.0.0.2/31",
            &["10.0.0.2", "10.0.0.3"],
            &["10.0.0.1", "10.0.0.4"],
        );
        check("0.0.0.0/0", &["255.1.2.3"], &["::"]);
        check(
            "2001:db8::/32",
            &["2001:db8:ffff::1"],
            &["2001:db9::", "32.1.13.184"],
        );
        check("::/0", &["ffff::"], &["1.2.3.4"]);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/32",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "::/128",
            "::/x",
            "::ffff:a00:0/120",
            "::ffff:a00:0/24",
            "/8",
            "host/8",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
