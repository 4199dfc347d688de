//! A role of IAM, by its ARN.
//!
//! Invariant: what STS would refuse for its shape is refused at the start.

use toml::Spanned;

use super::Findings;

const WANTED: &str = "must be the ARN of a role, such as arn:aws:iam::123456789012:role/orders";

/// STS allows so many characters.
const LENGTH_MAX: usize = 2048;

pub(super) fn role_arn(
    key: &str,
    value: Option<Spanned<String>>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let given = value?;
    let valid = is_role(given.get_ref());
    if !valid {
        findings.at(given.span(), key, given.get_ref(), WANTED);
    }
    valid.then(|| given.into_inner())
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, role] = parts[..] else {
        return false;
    };
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let name = role.strip_prefix("role/").unwrap_or_default();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    partition.starts_with("aws") && is_account && is_name && arn.len() <= LENGTH_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_known_by_its_arn() {
        for arn in [
            "arn:aws:iam::123456789012:role/orders",
            "arn:aws-us-gov:iam::123456789012:role/service-role/orders",
        ] {
            assert!(is_role(arn), "{arn}");
        }
        for arn in [
            "orders",
            "arn:aws:iam::123456789012:user/orders",
            "arn:aws:iam::12345678901:role/orders",
            "arn:aws:sts::123456789012:assumed-role/orders/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/or ders",
        ] {
            assert!(!is_role(arn), "{arn}");
        }
    }
}
