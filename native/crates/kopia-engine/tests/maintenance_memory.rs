//! Maintenance of many contents in little memory: the small sibling of `bench/mass.py` (`make mass`), which does it with
//! twenty million. One test in a process of its own: the kernel counts the peak by process.

mod support;

use kopia_engine::blob::Storage;
use kopia_engine::blob::filesystem::{FilesystemOptions, FilesystemStorage};
use kopia_engine::clock::SystemClock;
use kopia_engine::maintenance::{Mode, Safety, TaskDetails};
use kopia_engine::repository::{CreateOptions, OpenOptions, Repository};
use kopia_format::format_blob::KeyDerivation;
use kopia_format::maintenance::MaintenanceTask;
use kopia_testing::filling::{Plan, fill};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use support::PASSWORD;
use support::small_backups::maintain_with;

const MIB: u64 = 1 << 20;
/// Where the second process is to make the repository.
const MAKE_IN: &str = "MAINTENANCE_MEMORY_MAKE_IN";
const FILES: u64 = 20_000;
const UNUSED: u64 = 180_000;
/// A hundredth of the contents and of the limit of `make mass`.
const LIMIT_BYTES: u64 = 5 * MIB;
/// Beside the limit: stacks, buffers of packs and index blobs, the C library. Ten million bytes of keys alone, kept in
/// a map of everything, would be more.
const PEAK_BYTES_MAX: u64 = 24 * MIB;

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

fn open(root: &Path, memory_limit_bytes: u64) -> Arc<Repository> {
    let storage = FilesystemStorage::open(&FilesystemOptions::new(root)).expect("storage");
    let options = OpenOptions { memory_limit_bytes: Some(memory_limit_bytes), ..OpenOptions::default() };
    Repository::open(Arc::new(storage), PASSWORD, options).expect("opened")
}

fn make(root: &Path) {
    let storage: Arc<dyn Storage> =
        Arc::new(FilesystemStorage::initialize(&FilesystemOptions::new(root)).expect("storage"));
    let create =
        CreateOptions { key_derivation: KeyDerivation::Pbkdf2Sha256_600000, ..CreateOptions::default() };
    Repository::create(Arc::clone(&storage), PASSWORD, &create, Arc::new(SystemClock)).expect("created");
    let plan =
        Plan { files: FILES, unused: UNUSED, directory: FILES, flush: 5_000, bytes: 32, spread: false };
    fill(&open(root, 64 * MIB), &plan).expect("filled");
}

#[test]
fn a_full_cycle_of_very_many_contents_keeps_within_its_budget() {
    if let Some(root) = std::env::var_os(MAKE_IN) {
        return make(Path::new(&root));
    }
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path().join("repository");
    // Another process makes it: what is free in this one's heap would hide what maintenance takes.
    let this = std::env::current_exe().expect("this program");
    let made = Command::new(this).env(MAKE_IN, &root).status().expect("runs");
    assert!(made.success());

    let before = peak_bytes();
    let report = maintain_with(&open(&root, LIMIT_BYTES), Mode::Full, Safety::None).expect("maintained");
    let grown = peak_bytes() - before;
    assert_eq!(report.failed, None);
    let gc = report.task(MaintenanceTask::SnapshotGc).expect("ran").details.clone();
    let Some(TaskDetails::SnapshotGc { deleted, in_use, .. }) = gc else { panic!("{gc:?}") };
    assert!(deleted.count >= UNUSED && in_use.count >= FILES, "{report:?}");
    eprintln!("{} MiB more than before", grown / MIB);
    assert!(grown <= PEAK_BYTES_MAX, "{} MiB more than before", grown / MIB);
}
