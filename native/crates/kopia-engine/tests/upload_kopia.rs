//! Trees that Kopia and this engine upload in turn: the same root object, no new data, either way
//! round, whatever the splitter; and Kopia verifies and restores what was uploaded here.
//!
//! Needs the pinned binary, see `support::kopia`.

mod support;

use kopia_engine::cancel::CancelToken;
use kopia_engine::progress::Progress;
use kopia_engine::repository::CreateOptions;
use kopia_engine::source::Source;
use kopia_engine::upload::{Parents, UploadOptions, UploadResult, upload};
use kopia_testing::data::{repeat64k, splitmix};
use kopia_testing::tree::{TreeSpec, generate_tree};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::create_options;
use support::kopia::RealKopia;

/// A source beside the repository, and kopia connected as the same user.
struct Both(RealKopia);

impl Both {
    fn new(options: &CreateOptions) -> Option<Self> {
        RealKopia::new(options, "default", "default").map(Self)
    }
    fn source(&self) -> PathBuf {
        self.0.beside("source")
    }
    /// Root object of a snapshot by Kopia that reads everything.
    fn by_kopia(&self) -> String {
        let source = self.source();
        let source = source.to_str().expect("UTF-8");
        root_in(&self.0.run(&["snapshot", "create", "--json", "--force-hash=100", source]))
    }
    fn by_us(&self, options: &UploadOptions) -> UploadResult {
        self.upload(Source::Path(self.source()), options)
    }
    fn upload(&self, source: Source, options: &UploadOptions) -> UploadResult {
        upload(&self.0.open(), source, options, &Progress::default(), &CancelToken::new()).expect("uploaded")
    }
    fn verify(&self) {
        self.0.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    }
}

fn root_in(json: &str) -> String {
    let snapshot: serde_json::Value = serde_json::from_str(json).expect("JSON");
    snapshot["rootEntry"]["obj"].as_str().expect("object").to_owned()
}

fn root_of(result: &UploadResult) -> String {
    result.manifest.root_entry.as_ref().and_then(|entry| entry.object).expect("object").to_string()
}

fn read_everything() -> UploadOptions {
    UploadOptions { parents: Parents::None, ..UploadOptions::default() }
}

/// A tree with names, links and modes of all kinds, and large files with repetition and holes.
fn make_source(at: &Path, large_bytes: usize, non_utf8_names: bool) {
    std::fs::create_dir(at).expect("directory");
    generate_tree(at, &TreeSpec { entry_count: 150, non_utf8_names, ..TreeSpec::default() });
    std::fs::write(at.join("large"), splitmix(7, large_bytes)).expect("written");
    std::fs::write(at.join("repeated"), repeat64k(3, large_bytes)).expect("written");
    std::fs::write(at.join("zeros"), vec![0; large_bytes]).expect("written");
    let sparse = File::create(at.join("sparse")).expect("created");
    sparse.set_len(3 * large_bytes as u64).expect("length");
    sparse.write_all_at(&splitmix(8, large_bytes / 3), large_bytes as u64 + 4097).expect("written");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a FIFO");
}

#[test]
fn roots_are_equal_and_nothing_is_added_either_way_round_for_each_kind_of_splitter() {
    let splitters = [
        ("DYNAMIC-4M-BUZHASH", 20 << 20),
        ("DYNAMIC-128K-BUZHASH", 3 << 20),
        ("DYNAMIC-1M-RABINKARP", 9 << 20),
        ("FIXED-1M", 9 << 20),
        ("FIXED", 9 << 20),
    ];
    for (splitter, large_bytes) in splitters {
        for kopia_first in [true, false] {
            let options = CreateOptions { splitter: splitter.into(), ..create_options() };
            let Some(both) = Both::new(&options) else { return };
            let non_utf8_names = splitter == "FIXED-1M";
            make_source(&both.source(), large_bytes, non_utf8_names);
            let (theirs, ours) = if kopia_first {
                let theirs = both.by_kopia();
                let ours = both.by_us(&read_everything());
                assert_eq!(ours.incremental.bytes_uploaded, 0, "{splitter}: we added data");
                (theirs, ours)
            } else {
                let ours = both.by_us(&read_everything());
                both.verify();
                let packs = data_packs(&both.0.repository());
                let theirs = both.by_kopia();
                assert_eq!(data_packs(&both.0.repository()), packs, "{splitter}: kopia added data");
                (theirs, ours)
            };
            assert_eq!(root_of(&ours), theirs, "{splitter}, kopia first: {kopia_first}");
            let unchanged = both.by_us(&UploadOptions::default());
            assert_eq!(root_of(&unchanged), theirs);
            // Names that are not UTF-8 are never found again: Kopia reads those files again, too.
            let read = unchanged.incremental.bytes_read;
            assert_eq!(read > 0, non_utf8_names, "{splitter}: {:?}", unchanged.incremental);
        }
    }
}

/// Names of packs of data, which is where file contents go.
fn data_packs(repository: &Path) -> Vec<String> {
    let mut packs = Vec::new();
    let mut directories = vec![repository.join("p")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("readable") {
            let path = entry.expect("entry").path();
            if path.is_dir() { directories.push(path) } else { packs.push(path.display().to_string()) }
        }
    }
    packs.sort();
    packs
}

#[test]
fn large_files_are_split_into_the_parts_that_kopia_makes() {
    let Some(both) = Both::new(&create_options()) else { return };
    std::fs::create_dir(both.source()).expect("directory");
    for (name, length) in [("even", 12 << 20), ("odd", (9 << 20) + 1), ("below", 3 << 20), ("exact", 4 << 20)]
    {
        std::fs::write(both.source().join(name), splitmix(length as u64, length)).expect("written");
    }
    both.0.run(&["policy", "set", "--global", "--parallel-upload-above-size-mib=4"]);
    let theirs = both.by_kopia();
    let ours = both.by_us(&UploadOptions { parallel_upload_above_bytes: Some(4 << 20), ..read_everything() });
    assert_eq!(root_of(&ours), theirs);
    both.verify();
}

#[test]
fn kopia_restores_what_was_uploaded_here() {
    let Some(both) = Both::new(&create_options()) else { return };
    std::fs::create_dir(both.source()).expect("directory");
    generate_tree(&both.source(), &TreeSpec { entry_count: 300, ..TreeSpec::default() });
    let ours = both.by_us(&UploadOptions { parallelism: Some(4), ..UploadOptions::default() });
    let target = both.0.beside("restored");
    both.0.run(&["snapshot", "restore", &root_of(&ours), target.to_str().expect("UTF-8")]);
    let difference = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([both.source(), target])
        .output()
        .expect("diff runs");
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
}

#[test]
fn streams_and_single_files_are_recorded_as_kopia_records_them() {
    let Some(both) = Both::new(&create_options()) else { return };
    let data = splitmix(5, 5 << 20);
    std::fs::write(both.source(), &data).expect("written");
    let theirs = both.by_kopia();
    let ours = both.by_us(&read_everything());
    assert_eq!(root_of(&ours), theirs);
    let listed = both.0.run(&["snapshot", "list", "--all", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["rootEntry"], listed[1]["rootEntry"]);
    let source = both.source();
    let arguments = ["snapshot", "create", "--json", "--stdin-file=name", source.to_str().expect("UTF-8")];
    let theirs = both.0.run_with(&arguments, File::open(&source).expect("opened"));
    let ours = both.upload(
        Source::Stream {
            directory_name: source.as_os_str().as_encoded_bytes().to_vec(),
            file_name: b"name".to_vec(),
            reader: Box::new(std::io::Cursor::new(data)),
        },
        &UploadOptions::default(),
    );
    let theirs: serde_json::Value = serde_json::from_str(&theirs).expect("JSON");
    let mut ours_json = Vec::new();
    ours.manifest.root_entry.expect("root").encode(&mut ours_json);
    let ours: serde_json::Value = serde_json::from_slice(&ours_json).expect("JSON");
    for field in ["name", "type", "mode", "mtime"] {
        assert_eq!(ours[field], theirs["rootEntry"][field], "{field}");
    }
    for field in ["size", "files", "dirs", "numFailed"] {
        assert_eq!(ours["summ"][field], theirs["rootEntry"]["summ"][field], "{field}");
    }
    both.verify();
}

#[test]
fn policies_and_ignore_files_choose_what_kopia_chooses() {
    let Some(both) = Both::new(&create_options()) else { return };
    let source = both.source();
    for directory in ["sub/inner", "cache", "logs", "other"] {
        std::fs::create_dir_all(source.join(directory)).expect("directory");
    }
    let files = [
        ("a.tmp", 10),
        ("keep.tmp", 10),
        ("a.txt", 3000),
        ("b.gz", 3000),
        ("huge", 3 << 20),
        ("sub/a.tmp", 5),
        ("sub/b1", 6),
        ("sub/inner/b2", 7),
        ("sub/inner/a.log", 8),
        ("logs/a.log", 9),
        ("logs/b.txt", 11),
        ("other/x.skip", 12),
        ("other/y", 13),
        ("cache/data", 14),
    ];
    for (name, length) in files {
        std::fs::write(source.join(name), splitmix(length as u64, length)).expect("written");
    }
    std::fs::write(source.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\nmore")
        .expect("written");
    std::fs::write(source.join(".kopiaignore"), "# comment\n*.tmp\n!keep.tmp\n/logs/*.log\n\n")
        .expect("written");
    std::fs::write(source.join("rules"), "*.skip\n").expect("written");
    std::os::unix::fs::symlink("../rules", source.join("other/.kopiaignore")).expect("link");
    let sub = source.join("sub");
    let (source, sub) = (source.to_str().expect("UTF-8"), sub.to_str().expect("UTF-8"));
    both.0.run(&[
        "policy",
        "set",
        "--global",
        "--compression=zstd",
        "--add-never-compress=.gz",
        "--max-file-size=2000000",
    ]);
    both.0.run(&["policy", "set", source, "--add-ignore=inner/*.log", "--metadata-compression=none"]);
    both.0.run(&["policy", "set", sub, "--add-ignore=b*"]);
    let theirs = both.by_kopia();
    let ours = both.by_us(&read_everything());
    assert_eq!(root_of(&ours), theirs);
    assert_eq!(ours.incremental.bytes_uploaded, 0);
    let listed = both.0.run(&["ls", "-r", &theirs]);
    assert!(listed.contains("keep.tmp") && !listed.contains("a.tmp") && !listed.contains("huge"), "{listed}");
    assert!(ours.manifest.stats.excluded_file_count > 0);
}
