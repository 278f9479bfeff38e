//! A store that forgets everything when it is dropped: for tests, and for brokers that keep nothing.

use super::stream::{MemoryFiles, StreamFiles};
use super::{DefinitionChanges, Definitions, RecordLog, Scanned, StoreError, StreamStore};
use crate::message::Lsn;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keeps definitions and records in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    contents: Mutex<Contents>,
    streams: MemoryFiles,
}

#[derive(Debug, Default)]
struct Contents {
    definitions: BTreeMap<Bytes, Bytes>,
    records: BTreeMap<Lsn, Bytes>,
    last: Lsn,
}

impl Definitions for MemoryStore {
    fn define(&self, changes: &DefinitionChanges) -> Result<(), StoreError> {
        changes.apply_to(&mut self.contents.lock().definitions);
        Ok(())
    }

    fn definitions(&self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let contents = self.contents.lock();
        Ok(contents.definitions.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl StreamStore for MemoryStore {
    fn stream_files(&self) -> Arc<dyn StreamFiles> {
        Arc::new(self.streams.clone())
    }
}

impl RecordLog for MemoryStore {
    fn append(&self, head: &[u8], body: &Bytes) -> Result<Lsn, StoreError> {
        let mut record = BytesMut::with_capacity(head.len() + body.len());
        record.put_slice(head);
        record.put_slice(body);
        let mut contents = self.contents.lock();
        contents.last = Lsn(contents.last.0 + 1);
        let lsn = contents.last;
        contents.records.insert(lsn, record.freeze());
        Ok(lsn)
    }

    fn sync(&self) -> Result<Lsn, StoreError> {
        Ok(self.contents.lock().last)
    }

    fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, StoreError> {
        Ok(self.contents.lock().records.get(&lsn).cloned())
    }

    fn scan(&self, from: Lsn, visit: &mut dyn FnMut(Lsn, Scanned)) -> Result<(), StoreError> {
        let records = self.contents.lock().records.clone();
        for (lsn, record) in records.into_iter().filter(|(lsn, _)| *lsn >= from) {
            visit(lsn, Scanned::Record(record));
        }
        Ok(())
    }

    fn discard(&self, lsns: &[Lsn]) -> Result<(), StoreError> {
        let mut contents = self.contents.lock();
        for lsn in lsns {
            contents.records.remove(lsn);
        }
        Ok(())
    }
}
