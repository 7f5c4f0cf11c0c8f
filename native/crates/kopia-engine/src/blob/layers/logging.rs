//! One `debug` line a request.

use super::observing::{Observation, Observer};

/// Writes each request to the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestLog;

impl Observer for RequestLog {
    fn observe(&self, observation: &Observation<'_>) {
        tracing::debug!(
            operation = observation.operation.name(),
            blob_id = observation.blob,
            bytes = observation.bytes,
            duration_seconds = observation.elapsed.as_secs_f64(),
            error = observation.error.map(tracing::field::display),
            "blob request"
        );
    }
}
