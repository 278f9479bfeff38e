//! Settings that are declared once: name, type, default, bounds and description in one line each, from which the struct, its
//! defaults, its reading and the page of settings come.

use super::access::AccessSettings;
use super::access::{Permission, TopicPermission};
use super::argument::{Argument, Arguments};
use super::limits::{Limits, MemoryLimit};
use super::listeners::listeners;
use super::network::Network;
use super::policies::Policy;
use super::settings::{EventsTable, General, Log, Server, Store, WebSocket};
use super::stomp::Stomp;
use super::stream::StreamProtocol;
use super::tls::TlsSettings;
use super::topology::{Binding, Exchange, Queue, Vhost};
use crate::vocabulary::{ApplyTo, DestinationType, QueueType};
use std::fmt::Display;
use std::ops::{RangeFrom, RangeFull, RangeInclusive};
use std::path::PathBuf;

/// A setting, for its description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key within its table.
    pub key: &'static str,
    /// What is taken where it is not set, as the file writes it; empty where that depends on the machine.
    pub default: String,
    /// The values that it may have; empty where the description says them.
    pub bounds: String,
    /// What it does, in Markdown.
    pub description: String,
}

/// Declares a table of settings. Behind each one's default stands the reader of [`Section`](super::section::Section) for it, with
/// the bounds that the reader takes. Behind a name that the file writes differently stands `as` and what it writes; an item of a list
/// has `, declared_at` behind its name, and knows where it stands.
macro_rules! settings {
    (@key $key:ident) => { stringify!($key) };
    (@key $key:ident $written:literal) => { $written };
    (
        $(#[$about:meta])*
        $name:ident $(, $declared_at:ident)? {
            $(
                $(#[doc = $description:literal])+
                $key:ident $(as $written:literal)?: $kind:ty = $default:expr, $reader:ident($($bounds:expr)?);
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $description])+
                #[doc = concat!("\n\nDefault `", stringify!($default), "`.")]
                pub $key: $kind,
            )*
            $(
                /// Where it stands in the file.
                pub $declared_at: Option<$crate::config::Location>,
            )?
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($key: $default,)* $($declared_at: None,)? }
            }
        }

        impl $name {
            pub(super) fn read(section: &mut Section<'_>) -> $name {
                $name {
                    $($key: section.$reader(settings!(@key $key $($written)?) $(, $bounds)?).unwrap_or($default),)*
                    $($declared_at: section.location(),)?
                }
            }

            /// All of them, in the order of the struct.
            pub fn settings() -> Vec<$crate::config::Setting> {
                vec![$($crate::config::Setting {
                    key: settings!(@key $key $($written)?),
                    default: $crate::config::table::Shown::shown(&{ let default: $kind = $default; default }),
                    bounds: String::new() $(+ &$crate::config::table::Bounds::in_words(&$bounds))?,
                    description: [$($description),+].concat().trim().to_owned(),
                },)*]
            }
        }
    };
}
pub(super) use settings;

/// A default as the file writes it.
pub(super) trait Shown {
    /// See there.
    fn shown(&self) -> String;
}

macro_rules! shown_as_written {
    ($($kind:ty)*) => {
        $(impl Shown for $kind {
            fn shown(&self) -> String {
                self.to_string()
            }
        })*
    };
}

impl Shown for Network {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

shown_as_written! { bool u8 u16 u32 u64 i64 usize MemoryLimit }

impl Shown for Arguments {
    fn shown(&self) -> String {
        if self.is_empty() { String::new() } else { Argument::Table(self.clone()).to_string() }
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        if self.is_empty() { String::new() } else { format!("{self:?}") }
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for QueueType {
    fn shown(&self) -> String {
        word(QueueType::NAMES, self)
    }
}

impl Shown for DestinationType {
    fn shown(&self) -> String {
        word(DestinationType::NAMES, self)
    }
}

impl Shown for ApplyTo {
    fn shown(&self) -> String {
        word(ApplyTo::NAMES, self)
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> String {
        format!("[{}]", self.iter().map(Shown::shown).collect::<Vec<_>>().join(", "))
    }
}

/// The word for a choice, as the file writes it.
pub(super) fn word<T: PartialEq>(choices: &[(&'static str, T)], chosen: &T) -> String {
    let word = choices.iter().find(|(_, choice)| choice == chosen).map_or("", |(word, _)| *word);
    format!("{word:?}")
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map(Shown::shown).unwrap_or_default()
    }
}

/// The values that a setting may have.
pub(super) trait Bounds {
    /// In words.
    fn in_words(&self) -> String;
}

impl<T: Display> Bounds for RangeInclusive<T> {
    fn in_words(&self) -> String {
        format!("{} to {}", self.start(), self.end())
    }
}

impl<T: Display> Bounds for RangeFrom<T> {
    fn in_words(&self) -> String {
        format!("{} or more", self.start)
    }
}

impl Bounds for RangeFull {
    fn in_words(&self) -> String {
        String::new()
    }
}

impl<T> Bounds for &[(&'static str, T)] {
    fn in_words(&self) -> String {
        self.iter().map(|(word, _)| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
    }
}

/// The tables of the file that are described here, in the order of the example.
fn tables() -> Vec<(&'static str, Vec<Setting>)> {
    let mut tables = vec![("Above all tables", General::settings())];
    tables.extend(listeners());
    tables.extend([
        ("[websocket]", WebSocket::settings()),
        ("[stomp]", Stomp::settings()),
        ("[stream]", StreamProtocol::settings()),
        ("[server]", Server::settings()),
        ("[tls]", TlsSettings::settings()),
        ("[limits]", Limits::settings()),
        ("[access]", AccessSettings::settings()),
        ("[store]", Store::settings()),
        ("[events]", EventsTable::settings()),
        ("[log]", Log::settings()),
        ("[[vhosts]]", Vhost::settings()),
        ("[[permissions]]", Permission::settings()),
        ("[[topic_permissions]]", TopicPermission::settings()),
        ("[[policies]] and [[operator_policies]]", Policy::settings()),
        ("[[exchanges]]", Exchange::settings()),
        ("[[queues]]", Queue::settings()),
        ("[[bindings]]", Binding::settings()),
    ]);
    tables
}

/// The page that describes these tables, in Markdown.
pub fn page() -> String {
    let mut page = "# Settings\n\n\
        This page is made of the tables in `src/config/`: `leveret settings` prints it. Each setting can also be given as a variable, \
        such as `LEVERET__LIMITS__HEARTBEAT_S`, apart from the lists of what is declared at start, whose tables have double brackets. `[[users]]` \
        and all the others in their context are in [`examples/leveret.toml`](../examples/leveret.toml).\n"
        .to_owned();
    for (table, settings) in tables() {
        page.push_str(&format!("\n## {table}\n\n| Setting | Default | Values | |\n|---|---|---|---|\n"));
        for Setting { key, default, bounds, description } in settings {
            let default = match (default.as_str(), default.parse::<u64>()) {
                ("", _) => String::new(),
                (_, Ok(bytes)) if key.contains("bytes") => format!("{bytes}{}", in_units(bytes)),
                (default, _) => default.to_owned(),
            };
            page.push_str(&format!("| `{key}` | {default} | {bounds} | {description} |\n"));
        }
    }
    page
}

/// Bytes in the largest unit that they are a whole number of.
fn in_units(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!(" ({} {unit})", bytes >> shift);
        }
    }
    String::new()
}
