//! The requests and answers of the HTTP API as types: one struct for each thing, with its fields in the order in which they are written.
//!
//! The management API fills them, the commands read them, definitions are exported and imported as them, and the document at
//! `/api/openapi.json` describes them by what is said of each field here. So a new field of a thing is one line in its struct, and
//! one where it is computed.
//!
//! `reading` makes them of what clients send, as leniently as RabbitMQ does; `picking` takes single fields out of them.

mod access;
mod connection;
mod counts;
mod definitions;
mod exchange;
mod message;
mod node;
mod picking;
mod queue;
mod reading;
mod stream;
mod tags;
mod vhost;

pub use access::{BulkDelete, Permission, TopicPermission, User, UserLimits, WhoAmI};
pub use connection::{Channel, ChannelDetails, Connection, ConnectionDetails, Consumer, QueueDetails};
pub use counts::{Counts, Details, Lengths, Sample, rounded};
pub use definitions::{Definitions, ImportNote, Imported};
pub use exchange::{Binding, Exchange, ExchangeDefinition};
pub use message::{Browsed, Fetched, Get, Holder, Move, MoveReport, Properties, Publish, Published, Seen};
pub use node::{
    Application, Available, ClusterName, Context, DeprecatedFeature, ExpiringCertificate, FeatureFlag,
    Health, Listener, LogLevel, LoginAttempts, Loss, MemoryParts, Node, NodeMemory, ObjectTotals, Overview,
    QuorumMember, RaisedAlarm, ResourceLimit,
};
pub use picking::at_path;
pub use queue::{Queue, QueueAction, QueueDefinition};
pub use reading::{Fault, Form, fields, read};
pub use stream::{
    StreamConsumer, StreamFields, StreamGroup, StreamPublisher, StreamReset, StreamResetOffset,
    StreamTracking, StreamWriter, SuperStream, SuperStreamDefinition,
};
pub use tags::Tags;
pub use vhost::{
    GlobalParameter, Parameter, Policy, Setting, Vhost, VhostDefinition, VhostLimits, VhostMetadata,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Arguments, definitions and headers: any fields with any values.
pub type Table = Map<String, Value>;

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// How many items the filter lets through
    pub filtered_count: usize,
    /// How many are on this page
    pub item_count: usize,
    /// The things of this page
    pub items: Vec<T>,
    /// Which page it is, counted from 1
    pub page: usize,
    /// How many pages there are
    pub page_count: usize,
    /// How many items a page may have
    pub page_size: usize,
    /// How many items there are without the filter
    pub total_count: usize,
}

/// Fields of a thing as an object.
pub fn object<T: Serialize>(thing: &T) -> Table {
    match serde_json::to_value(thing) {
        Ok(Value::Object(fields)) => fields,
        // All that is described here is an object with names as keys.
        _ => Table::new(),
    }
}

/// A thing as it is written.
pub fn written<T: Serialize>(thing: &T) -> String {
    serde_json::to_string(thing).unwrap_or_default()
}
