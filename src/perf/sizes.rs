//! How large bodies are: one size, several in turn, or any of a range.

use std::fmt;
use std::str::FromStr;

/// No broker takes larger ones.
const BODY_BYTES_MAX: usize = 512 << 20;

/// The sizes of bodies, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    /// One after the other, then again.
    InTurn(Vec<usize>),
    /// Each as likely as any other; both ends are among them.
    Between(usize, usize),
}

impl Sizes {
    /// The size of the message of that number. It is always the same, so that two runs publish the same.
    pub(super) fn of(&self, number: u64) -> usize {
        match self {
            Sizes::InTurn(sizes) => sizes[(number % sizes.len() as u64) as usize],
            Sizes::Between(least, most) => least + (scattered(number) % (most - least + 1) as u64) as usize,
        }
    }

    pub(super) fn largest(&self) -> usize {
        match self {
            Sizes::InTurn(sizes) => sizes.iter().copied().max().unwrap_or(0),
            Sizes::Between(_, most) => *most,
        }
    }
}

/// A number that looks like chance: the finish of the generator splitmix64.
fn scattered(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        if let Some((least, most)) = text.split_once('-') {
            let (least, most) = (bytes(least)?, bytes(most)?);
            return match least <= most {
                true => Ok(Sizes::Between(least, most)),
                false => Err(format!("{least} is more than {most}")),
            };
        }
        let sizes: Result<Vec<usize>, String> = text.split(',').map(bytes).collect();
        Ok(Sizes::InTurn(sizes?))
    }
}

/// `100`, `16k` for KiB, `1M` for MiB.
fn bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let number: usize =
        digits.parse().map_err(|_| format!("'{text}' is no size; they look like 100, 16k or 1M"))?;
    match number.checked_mul(unit) {
        Some(bytes) if bytes <= BODY_BYTES_MAX => Ok(bytes),
        _ => Err(format!("{text} is more than a message may have, 512M")),
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::InTurn(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
                f.write_str(&sizes.join(","))
            }
            Sizes::Between(least, most) => write!(f, "{least}-{most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_several_or_a_range() {
        let sizes: Sizes = "100".parse().unwrap();
        assert_eq!((sizes.of(0), sizes.of(9), sizes.largest()), (100, 100, 100));
        let sizes: Sizes = "1,2k, 3M".parse().unwrap();
        assert_eq!([0, 1, 2, 3].map(|number| sizes.of(number)), [1, 2048, 3 << 20, 1]);
        let sizes: Sizes = "10-12".parse().unwrap();
        let mut found: Vec<usize> = (0..100).map(|number| sizes.of(number)).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, [10, 11, 12]);
        assert_eq!(sizes.to_string(), "10-12");
    }

    #[test]
    fn what_is_no_size_is_told() {
        for (text, problem) in [
            ("x", "'x' is no size; they look like 100, 16k or 1M"),
            ("", "'' is no size; they look like 100, 16k or 1M"),
            ("20-10", "20 is more than 10"),
            ("1,600M", "600M is more than a message may have, 512M"),
        ] {
            assert_eq!(text.parse::<Sizes>().unwrap_err(), problem);
        }
    }
}
