//! The patterns of `x-glob` by their rules in the plainest form.

/// A part of a pattern.
enum Part {
    /// One byte, the separator too.
    Byte(u8),
    /// One byte but the separator.
    Any,
    /// Any bytes but the separator.
    Many,
    /// One of 128 characters, by bits; or one that is none of them.
    Class { members: u128, is_negated: bool },
}

const SEPARATOR: u8 = b'.';

/// Whether a sound pattern matches; `None` where these rules are not enough: with braces, and where `**` and escapes meet.
pub(super) fn is_match(pattern: &[u8], key: &[u8]) -> Option<bool> {
    let has_recursion = pattern.windows(2).any(|pair| pair == b"**");
    if pattern.contains(&b'{') || pattern.contains(&b'}') || (has_recursion && pattern.contains(&b'\\')) {
        return None;
    }
    let parts = parts(pattern);
    let mut words: Vec<Vec<&Part>> = vec![Vec::new()];
    for part in &parts {
        match part {
            Part::Byte(SEPARATOR) => words.push(Vec::new()),
            other => words.last_mut()?.push(other),
        }
    }
    let key: Vec<&[u8]> = key.split(|byte| *byte == SEPARATOR).collect();
    // Whether the words so far stand for the first so many of the key's.
    let mut reached = vec![false; key.len() + 1];
    reached[0] = true;
    for (place, word) in words.iter().enumerate() {
        if matches!(word[..], [Part::Many, Part::Many]) {
            let is_last = place + 1 == words.len();
            let first = reached.iter().position(|is_reached| *is_reached);
            let first = first.map_or(reached.len(), |first| first + usize::from(is_last));
            let first = first.min(reached.len());
            if is_last {
                reached[..first].fill(false);
            }
            reached[first..].fill(true);
            continue;
        }
        for count in (0..key.len()).rev() {
            reached[count + 1] = reached[count] && is_word(word, key[count]);
        }
        reached[0] = false;
    }
    Some(reached[key.len()])
}

fn is_word(parts: &[&Part], word: &[u8]) -> bool {
    let mut reached = vec![false; word.len() + 1];
    reached[0] = true;
    for part in parts {
        if matches!(part, Part::Many) {
            let first = reached.iter().position(|is_reached| *is_reached).unwrap_or(reached.len());
            reached[first..].fill(true);
            continue;
        }
        for count in (0..word.len()).rev() {
            let byte = word[count];
            reached[count + 1] = reached[count]
                && match part {
                    Part::Byte(expected) => byte == *expected,
                    Part::Any | Part::Many => true,
                    Part::Class { members, is_negated } => {
                        (byte < 128 && members >> byte & 1 == 1) != *is_negated
                    }
                };
        }
        reached[0] = false;
    }
    reached[word.len()]
}

fn parts(pattern: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        parts.push(match byte {
            b'*' => Part::Many,
            b'?' => Part::Any,
            b'\\' => {
                let escaped = rest.first().copied().unwrap_or(b'\\');
                rest = rest.get(1..).unwrap_or_default();
                Part::Byte(escaped)
            }
            b'[' => class(&mut rest),
            other => Part::Byte(other),
        });
    }
    parts
}

fn class(rest: &mut &[u8]) -> Part {
    let is_negated = matches!(rest.first(), Some(b'!' | b'^'));
    let mut at = usize::from(is_negated);
    let mut members = 0_u128;
    let first = at;
    while let Some(&low) = rest.get(at) {
        at += 1;
        if low == b']' && at > first + 1 {
            break;
        }
        let high = match rest.get(at..) {
            Some([b'-', high, ..]) if *high != b']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        (low..=high).filter(|byte| *byte < 128).for_each(|byte| members |= 1 << byte);
    }
    *rest = rest.get(at..).unwrap_or_default();
    Part::Class { members, is_negated }
}
