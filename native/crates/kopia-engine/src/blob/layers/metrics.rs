//! Counts requests, bytes and seconds by operation and result.

use super::observing::{Observation, Observer, Operation};
use crate::error::{Error, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a request ended; the label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestResult {
    /// It succeeded.
    Ok,
    /// The blob is missing.
    NotFound,
    /// It failed for a reason that may pass.
    Temporary,
    /// It failed.
    Failed,
}

impl RequestResult {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Ok, Self::NotFound, Self::Temporary, Self::Failed];

    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Temporary => "temporary",
            Self::Failed => "failed",
        }
    }

    fn of(error: Option<&Error>) -> Self {
        match error {
            None => Self::Ok,
            Some(error) if error.kind == ErrorKind::BlobNotFound => Self::NotFound,
            Some(error) if error.temporary => Self::Temporary,
            Some(_) => Self::Failed,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    request_count: AtomicU64,
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

/// Counters of a storage; only ever grow. Read at any time from any thread.
#[derive(Debug, Default)]
pub struct StorageMetrics {
    counters: [[Counters; RequestResult::ALL.len()]; Operation::ALL.len()],
}

/// A reading of one pair of labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricReading {
    /// Label.
    pub operation: Operation,
    /// Label.
    pub result: RequestResult,
    /// Requests ended.
    pub request_count: u64,
    /// Bytes read (`get`) or written (`put`).
    pub bytes: u64,
    /// Time spent in them.
    pub seconds: f64,
}

impl StorageMetrics {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Readings of the pairs of labels that have occurred.
    pub fn read(&self) -> Vec<MetricReading> {
        let pairs = Operation::ALL.into_iter().flat_map(|operation| {
            RequestResult::ALL.into_iter().map(move |result| self.read_one(operation, result))
        });
        pairs.filter(|reading| reading.request_count > 0).collect()
    }

    /// The reading of one pair of labels.
    pub fn read_one(&self, operation: Operation, result: RequestResult) -> MetricReading {
        let counters = &self.counters[operation as usize][result as usize];
        MetricReading {
            operation,
            result,
            request_count: counters.request_count.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            seconds: counters.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

impl Observer for StorageMetrics {
    fn observe(&self, observation: &Observation<'_>) {
        let result = RequestResult::of(observation.error);
        let counters = &self.counters[observation.operation as usize][result as usize];
        let nanoseconds = u64::try_from(observation.elapsed.as_nanos()).unwrap_or(u64::MAX);
        counters.request_count.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(observation.bytes, Ordering::Relaxed);
        counters.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::observing::ObservedStorage;
    use super::*;
    use crate::blob::memory::MemoryStorage;
    use crate::blob::{PutOptions, Storage};
    use std::sync::Arc;

    #[test]
    fn requests_and_bytes_are_counted_by_operation_and_result() {
        let metrics = Arc::new(StorageMetrics::new());
        let storage = ObservedStorage::new(Arc::new(MemoryStorage::new()), metrics.clone());
        let (id, mut out) = ("p1".into(), Vec::new());
        storage.put(&id, &[b"123", b"45"], &PutOptions::default()).expect("put");
        let mut writer = storage.create(&id, &PutOptions::default()).expect("create");
        writer.write(b"1234567").expect("write");
        writer.finish().expect("finish");
        storage.get(&id, &mut out).expect("get");
        storage.get_range(&id, 1, 2, &mut out).expect("get_range");
        storage.get(&"p2".into(), &mut out).expect_err("missing");
        storage.get_range(&id, 9, 9, &mut out).expect_err("outside");
        drop(storage.create(&id, &PutOptions::default()).expect("create"));
        let counted = |operation, result| {
            let reading = metrics.read_one(operation, result);
            (reading.request_count, reading.bytes)
        };
        assert_eq!(counted(Operation::Put, RequestResult::Ok), (2, 12));
        assert_eq!(counted(Operation::Get, RequestResult::Ok), (2, 9));
        assert_eq!(counted(Operation::Get, RequestResult::NotFound), (1, 0));
        assert_eq!(counted(Operation::Get, RequestResult::Failed), (1, 0));
        assert_eq!(metrics.read().len(), 4);
        assert!(metrics.read().iter().all(|reading| reading.seconds > 0.0));
    }

    #[test]
    fn labels_are_in_the_order_of_their_discriminants() {
        assert!(Operation::ALL.iter().enumerate().all(|(number, label)| *label as usize == number));
        assert!(RequestResult::ALL.iter().enumerate().all(|(number, label)| *label as usize == number));
    }
}
