//! The management API's refusals in plain words: it has RabbitMQ's, which are codes and Erlang's terms at times. Programs want
//! those; people at a terminal do not.

use leveret::rabbit::policy;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

/// A key and what stands behind it, as Erlang writes a pair.
static KEY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"\{<<"([^"]*)">>,"#).expect("the pattern is ours and good"));

/// A text, as Erlang writes it.
static BINARY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"<<"([^"]*)">>"#).expect("the pattern is ours and good"));

/// What stands behind settings that there are not.
const UNKNOWN: &str = "are not recognised policy settings";

/// The reason for people.
pub(super) fn plain(reason: &str) -> String {
    if let Ok(Value::Array(words)) = serde_json::from_str(reason) {
        return of_words(&words);
    }
    match reason {
        "vhost_or_user_not_found" => "there is no such vhost, or no such user".to_owned(),
        "vhost_not_found" => "there is no such vhost".to_owned(),
        _ if reason.contains(UNKNOWN) => no_such_settings(reason),
        _ => BINARY.replace_all(reason, "'$1'").into_owned(),
    }
}

/// A code with what it is about.
fn of_words(words: &[Value]) -> String {
    let text = |word: &Value| word.as_str().map_or_else(|| word.to_string(), str::to_owned);
    let texts: Vec<String> = words.iter().map(text).collect();
    match texts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["invalid_regexp", pattern, why] => format!("'{pattern}' is no regular expression: {why}"),
        ["no_such_user", name] => format!("there is no user '{name}'"),
        ["key_missing", name] => format!("the field {name} is missing"),
        ["not_int" | "not_integer", value] => format!("'{value}' is no whole number"),
        ["not_boolean", value] => format!("'{value}' is neither true nor false"),
        ["not_string" | "not_shortstr", value] => format!("'{value}' is no text of at most 255 bytes"),
        ["not_positive", name] => format!("{name} has to be 1 or more"),
        ["not_a_place", place] => {
            format!("'{place}' is no place in a queue; leveret ctl browse shows places")
        }
        [code, value] => format!("{}: '{value}'", code.replace('_', " ")),
        _ => texts.join(": "),
    }
}

/// Names the settings that there are not, and those that were meant.
fn no_such_settings(reason: &str) -> String {
    let named = reason.split(UNKNOWN).next().unwrap_or_default();
    let settings = KEY.captures_iter(named).map(|found| {
        let key = &found[1];
        let near = policy::setting_names()
            .map(|name| (strsim::jaro_winkler(name, key), name))
            .filter(|(likeness, _)| *likeness > 0.85)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let meant = near.map(|(_, name)| format!(": did you mean {name}?")).unwrap_or_default();
        format!("there is no policy setting {key}{meant}")
    });
    settings.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn codes_and_terms_become_words() {
        for (reason, words) in [
            (
                "Validation failed\n\n[{<<\"max-lenght\">>,5}] are not recognised policy settings\n",
                "there is no policy setting max-lenght: did you mean max-length?",
            ),
            (
                "[{<<\"a\">>,<<\"b\">>},{<<\"expire\">>,1}] are not recognised policy settings",
                "there is no policy setting a; there is no policy setting expire: did you mean expires?",
            ),
            ("<<\"x\">> is not a valid maximum length", "'x' is not a valid maximum length"),
            ("vhost_or_user_not_found", "there is no such vhost, or no such user"),
            (r#"["invalid_regexp","(","unclosed group"]"#, "'(' is no regular expression: unclosed group"),
            (r#"["unknown_queue_type","q"]"#, "unknown queue type: 'q'"),
            (r#"["no_such_user","u"]"#, "there is no user 'u'"),
            ("it is locked", "it is locked"),
        ] {
            assert_eq!(plain(reason), words);
        }
    }
}
