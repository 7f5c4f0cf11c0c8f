//! Which epoch parameters may be set (§4.7.5). Source: Kopia `internal/epoch/epoch_manager.go`.

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::format_blob::EpochParameters;

const MINUTE: i64 = 60 * 1_000_000_000;

/// Refuses parameters that Kopia would refuse; anything goes while epochs are off.
///
/// # Errors
/// `OutOfRange`, with the bound that is broken.
pub fn check_parameters(parameters: &EpochParameters) -> Result<()> {
    if !parameters.enabled {
        return Ok(());
    }
    let three_refreshes = parameters.epoch_refresh_frequency.saturating_mul(3);
    let bounds = [
        (parameters.min_epoch_duration >= 10 * MINUTE, "an epoch must last at least 10 minutes"),
        (three_refreshes <= parameters.min_epoch_duration, "an epoch must last at least 3 refreshes"),
        (parameters.full_checkpoint_frequency > 0, "the full checkpoint frequency must be at least 1"),
        (
            parameters.cleanup_safety_margin >= three_refreshes,
            "the safety margin must be at least 3 refreshes",
        ),
        (parameters.epoch_advance_on_count_threshold >= 10, "an epoch must have at least 10 index blobs"),
        (
            parameters.epoch_advance_on_total_size_bytes_threshold >= 1 << 20,
            "an epoch must have at least 1 MiB of index blobs",
        ),
    ];
    match bounds.iter().find(|(holds, _)| !holds) {
        Some((_, bound)) => Err(FormatError::new(FormatErrorKind::OutOfRange, "epoch parameters", *bound)),
        None => Ok(()),
    }
}
