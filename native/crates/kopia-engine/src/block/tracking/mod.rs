//! Asking a changed-block service (`snapshotmetadata.SnapshotMetadata`, Kubernetes' external-snapshot-metadata) what
//! to read of a device.
//!
//! An answer that is cut off is asked for again from where it ended. All that comes is bounded: the length of a
//! message, the time between two, the time of all, and how many there can be of a device.

mod call;
mod messages;

use super::changed::ChangedBlocks;
use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use call::{Call, Ended};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Times that an answer is asked for.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; doubled from one to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// For all attempts.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// Smallest range that a driver tells: more ranges than a device has of these is an endless answer.
const RANGE_BYTES_MIN: u64 = 512;

/// Where the service is, and what it is asked.
#[derive(Debug, Clone)]
pub struct ChangedBlocksQuery {
    /// `host:port`.
    pub address: String,
    /// PEM of the authority that its certificate is of.
    pub authority: String,
    /// File with the token to show; read anew for each attempt, since it rotates.
    pub token_path: PathBuf,
    /// Namespace of the snapshot.
    pub namespace: String,
    /// The VolumeSnapshot that is backed up.
    pub snapshot: String,
    /// Handle of the snapshot that changes are asked since; empty: what is allocated.
    pub base: String,
    /// Longest time between two parts of the answer.
    pub patience: Duration,
}

/// How it was answered.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ChangedBlocksAnswer {
    /// Ranges told.
    pub ranges: u64,
    /// Times that the answer was cut off and gone on with.
    pub resumed: u32,
}

/// Marks what the service tells in `blocks`.
///
/// # Errors
/// `Canceled`; `AccessDenied`; `InvalidArgument` for numbers that cannot be; `Storage` for whatever else fails.
/// `blocks` is then marked in part: not to be relied on.
pub fn ask_changed_blocks(
    query: &ChangedBlocksQuery,
    blocks: &mut ChangedBlocks,
    cancel: &CancelToken,
) -> Result<ChangedBlocksAnswer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot start the changed-block client").caused_by(error)
    })?;
    let deadline = Instant::now() + DEADLINE;
    let ranges_max = blocks.device_bytes() / RANGE_BYTES_MIN + 1;
    let mut call =
        Call { query, cancel, deadline, ranges_max, next_offset: 0, ordered: true, ranges: 0, shape: None };
    let mut answer = ChangedBlocksAnswer::default();
    let mut pause = PAUSE;
    loop {
        let before = call.ranges;
        match runtime.block_on(call.run(blocks)) {
            Ok(()) => {
                answer.ranges = call.ranges;
                return Ok(answer);
            }
            Err(Ended { error, again }) => {
                cancel.check()?;
                let late = Instant::now() + pause >= deadline;
                if !again || late || answer.resumed + 1 >= ATTEMPTS {
                    return Err(error.while_doing(format!("changed-block service {}", query.address)));
                }
                tracing::warn!(%error, ranges = call.ranges - before, "changed-block service is asked again");
            }
        }
        answer.resumed += 1;
        std::thread::sleep(pause);
        pause *= 2;
    }
}
