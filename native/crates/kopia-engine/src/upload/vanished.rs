//! When what vanished from a source is the life of a living tree, and when the source itself is being deleted.
//!
//! A file that was listed and is gone at its turn happens in every busy tree. A volume that is torn down while it
//! is read (the emptyDir of a pod that is deleted) looks the same file by file, and must not become a complete
//! snapshot of the rest: later backups and people would take it for the whole.

/// Entries that may vanish anywhere …
const VANISHED_MAX: u64 = 16;
/// … and of large directories the share of what was listed, one in so many.
const VANISHED_SHARE: u64 = 8;

/// Why a directory of `listed` entries, of which `vanished` were gone at their turn, is not whole; in words.
pub(super) fn loss(is_deleted: bool, listed: u64, vanished: u64) -> Option<String> {
    if is_deleted {
        return Some("the directory was deleted while it was read".into());
    }
    let too_many = vanished > VANISHED_MAX && vanished > listed / VANISHED_SHARE;
    too_many.then(|| format!("{vanished} of {listed} entries were deleted before they were read"))
}

#[cfg(test)]
mod tests {
    use super::loss;

    #[test]
    fn a_few_vanished_files_are_life_and_many_are_a_loss() {
        assert_eq!(loss(false, 1, 1), None);
        assert_eq!(loss(false, 16, 16), None);
        assert_eq!(loss(false, 8000, 1000), None);
        assert!(loss(false, 8000, 1001).is_some_and(|error| error.contains("1001 of 8000")));
        assert!(loss(false, 17, 17).is_some());
        assert!(loss(true, 8000, 0).is_some_and(|error| error.contains("deleted while")));
    }
}
