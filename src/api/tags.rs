//! Tags: of users and of vhosts.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// Words, written as a list and also read out of a text with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(pub Vec<String>);

impl Tags {
    fn add(&mut self, word: &str) {
        let word = word.trim();
        if !word.is_empty() {
            self.0.push(word.to_owned());
        }
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

impl From<&str> for Tags {
    fn from(text: &str) -> Tags {
        let mut tags = Tags::default();
        text.split(',').for_each(|word| tags.add(word));
        tags
    }
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Tags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of words, or a text with commas between them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tags, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Tags, A::Error> {
        let mut tags = Tags::default();
        while let Some(word) = words.next_element::<String>()? {
            tags.add(&word);
        }
        Ok(tags)
    }
}

impl JsonSchema for Tags {
    fn schema_name() -> Cow<'static, str> {
        "Tags".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Words, written as a list and also read out of a text with commas between them",
            "oneOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "string" }],
        })
    }
}
