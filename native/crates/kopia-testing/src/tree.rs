//! Random source trees, the same for the same seed.
//!
//! Everything that makes backup programs stumble: odd, long and non-UTF-8 names, empty files and
//! directories, modes, symbolic links (dangling ones too), hard links, sparse files, times before
//! 1970 and with nanoseconds. Owners are left as they are; sockets and devices are not made.

use crate::data::{SplitMix, repeat64k, splitmix, text};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a tree is made of.
#[derive(Debug, Clone)]
pub struct TreeSpec {
    /// Two trees of one seed and specification are equal.
    pub seed: u64,
    /// Entries in all, about.
    pub entry_count: usize,
    /// Longest ordinary file.
    pub file_length_max: usize,
    /// Apparent length of a sparse file.
    pub sparse_length_bytes: u64,
    /// Names that are not UTF-8: Kopia stores them with replacement characters, so trees that are
    /// compared after a restore leave them out.
    pub non_utf8_names: bool,
}

impl Default for TreeSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            entry_count: 200,
            file_length_max: 200_000,
            sparse_length_bytes: 5 << 20,
            non_utf8_names: false,
        }
    }
}

/// How many entries of each kind were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Regular files, sparse ones and hard links included.
    pub file_count: usize,
    /// Directories, without the root.
    pub directory_count: usize,
    /// Symbolic links.
    pub symlink_count: usize,
    /// Names beyond the first of a file.
    pub hard_link_count: usize,
    /// Sparse files.
    pub sparse_count: usize,
}

/// Fills the empty directory `root`.
///
/// # Panics
/// If an entry cannot be made.
pub fn generate_tree(root: &Path, spec: &TreeSpec) -> TreeCounts {
    let mut builder = Builder {
        spec: spec.clone(),
        choice: SplitMix::new(spec.seed),
        directories: vec![root.to_owned()],
        files: Vec::new(),
        symlinks: Vec::new(),
        counts: TreeCounts::default(),
    };
    for number in 0..spec.entry_count {
        builder.make_entry(number);
    }
    builder.finish();
    builder.counts
}

struct Builder {
    spec: TreeSpec,
    choice: SplitMix,
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    symlinks: Vec<PathBuf>,
    counts: TreeCounts,
}

impl Builder {
    fn make_entry(&mut self, number: usize) {
        let parent = self.choice.below(self.directories.len() as u64) as usize;
        let name = self.name(number);
        let path = self.directories[parent].join(name);
        match self.choice.below(20) {
            0..=2 => self.make_directory(path),
            3 => self.make_symlink(path),
            4 if !self.files.is_empty() => self.make_hard_link(&path),
            5 => self.make_sparse_file(path),
            _ => self.make_file(path),
        }
    }

    /// Unique by its number; odd in every third.
    fn name(&mut self, number: usize) -> OsString {
        let kinds = if self.spec.non_utf8_names { 13 } else { 12 };
        let name = match self.choice.below(kinds * 2) {
            0 => format!("with space {number}"),
            1 => format!("new\nline\t{number}"),
            2 => format!("üñï日本語🦀-{number}"),
            3 => format!("quote\"'`\\{number}"),
            4 => format!(".hidden{number}"),
            5 => format!("-rf{number}"),
            6 => format!("{}{number:05}", "long".repeat(62)),
            7 => format!("star*?[a]!{number}"),
            8 => format!("<&>\u{2028}{number}"),
            9 => format!("{number}trailing. "),
            10 => format!("CON{number}.f.tmp"),
            11 => format!("e\u{301}\u{7f}{number}"),
            24.. => return OsString::from_vec([b"bad\xff\xfe", number.to_string().as_bytes()].concat()),
            _ => format!("entry{number}"),
        };
        name.into()
    }

    fn make_directory(&mut self, path: PathBuf) {
        fs::create_dir(&path).expect("directory");
        self.counts.directory_count += 1;
        // Every fourth stays empty.
        if !self.choice.one_in(4) {
            self.directories.push(path);
        } else {
            self.set_mode_and_time(&path, &[0o755, 0o700, 0o1777, 0o2750]);
        }
    }

    fn make_symlink(&mut self, path: PathBuf) {
        let target = match self.choice.below(4) {
            0 => PathBuf::from("no/such/target"),
            1 => PathBuf::from("/etc/hostname"),
            2 => PathBuf::from("."),
            _ => self.files.last().cloned().unwrap_or_else(|| PathBuf::from("..")),
        };
        // Relative, so that a tree does not depend on where it was made.
        let target = target.file_name().map_or(target.clone(), PathBuf::from);
        symlink(target, &path).expect("symbolic link");
        self.set_time(&path);
        self.symlinks.push(path);
        self.counts.symlink_count += 1;
    }

    fn make_hard_link(&mut self, path: &Path) {
        let number = self.choice.below(self.files.len() as u64) as usize;
        fs::hard_link(&self.files[number], path).expect("hard link");
        self.counts.file_count += 1;
        self.counts.hard_link_count += 1;
    }

    fn make_sparse_file(&mut self, path: PathBuf) {
        let file = File::create(&path).expect("sparse file");
        let length = self.spec.sparse_length_bytes;
        file.set_len(length).expect("length");
        for _ in 0..self.choice.below(3) {
            let offset = self.choice.below(length.max(1)) & !4095;
            let bytes = splitmix(self.choice.next_u64(), 4096.min((length - offset) as usize));
            file.write_all_at(&bytes, offset).expect("data");
        }
        self.counts.sparse_count += 1;
        self.finish_file(path);
    }

    fn make_file(&mut self, path: PathBuf) {
        let (seed, length) = (self.choice.next_u64(), self.length());
        let bytes = match self.choice.below(4) {
            0 => splitmix(seed, length),
            1 => repeat64k(seed & 3, length),
            2 => vec![0; length],
            _ => text(seed, length),
        };
        fs::write(&path, bytes).expect("file");
        self.finish_file(path);
    }

    /// Empty, tiny, small or up to the longest.
    fn length(&mut self) -> usize {
        let max = self.spec.file_length_max as u64 + 1;
        let bound = match self.choice.below(8) {
            0 => 1,
            1 => 16,
            2..=5 => 5000,
            _ => max,
        };
        self.choice.below(bound.min(max)) as usize
    }

    fn finish_file(&mut self, path: PathBuf) {
        self.set_mode_and_time(&path, &[0o644, 0o600, 0o755, 0o444, 0o4755, 0o640]);
        self.files.push(path);
        self.counts.file_count += 1;
    }

    fn set_mode_and_time(&mut self, path: &Path, modes: &[u32]) {
        let mode = modes[self.choice.below(modes.len() as u64) as usize];
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
        self.set_time(path);
    }

    fn set_time(&mut self, path: &Path) {
        // 1906 to 2033; negative for one in eight.
        let seconds = self.choice.below(2_000_000_000) as i64;
        let tv_sec = if self.choice.one_in(8) { -seconds } else { seconds };
        let tv_nsec = self.choice.below(1_000_000_000) as i64;
        let time = Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
    }

    /// Directories last, and from the leaves up: making entries changes their times.
    fn finish(&mut self) {
        let directories = std::mem::take(&mut self.directories);
        for path in directories.iter().rev() {
            self.set_mode_and_time(path, &[0o755, 0o700, 0o1777, 0o2750]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::temporary_directory;
    use std::os::unix::fs::MetadataExt;

    /// Path, mode, length, links, time and bytes of each entry.
    fn described(root: &Path, path: &Path, out: &mut Vec<String>) {
        let found = fs::symlink_metadata(path).unwrap();
        let content = match found.file_type() {
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
            kind if kind.is_file() => {
                format!("{:?}", fs::read(path).unwrap().iter().map(|b| u64::from(*b)).sum::<u64>())
            }
            _ => String::new(),
        };
        // The size of a directory is the file system's own affair.
        let length = if found.is_dir() { 0 } else { found.len() };
        let name = path.strip_prefix(root).unwrap();
        let (mode, links, seconds, nanos) = (found.mode(), found.nlink(), found.mtime(), found.mtime_nsec());
        out.push(format!("{name:?} {mode:o} {length} {links} {seconds}.{nanos} {content}"));
        if found.is_dir() {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            names.iter().for_each(|name| described(root, name, out));
        }
    }

    fn tree(seed: u64) -> (Vec<String>, TreeCounts) {
        let directory = temporary_directory();
        let root = directory.path().join("tree");
        fs::create_dir(&root).unwrap();
        let counts = generate_tree(&root, &TreeSpec { seed, non_utf8_names: true, ..TreeSpec::default() });
        let mut out = Vec::new();
        described(&root, &root, &mut out);
        (out, counts)
    }

    #[test]
    fn equal_seeds_make_equal_trees_and_others_do_not() {
        assert_eq!(tree(7), tree(7));
        assert_ne!(tree(7), tree(8));
    }

    #[test]
    fn each_kind_of_entry_is_there() {
        let (entries, counts) = tree(7);
        assert_eq!(entries.len(), 201);
        let TreeCounts { file_count, directory_count, symlink_count, hard_link_count, sparse_count } = counts;
        assert_eq!(file_count + directory_count + symlink_count, 200);
        assert!(
            directory_count > 5 && symlink_count > 2 && hard_link_count > 2 && sparse_count > 2,
            "{counts:?}"
        );
        assert!(entries.iter().any(|entry| entry.contains("\\xFF")), "a name that is not UTF-8");
        assert!(entries.iter().any(|entry| entry.contains("longlong")), "a long name");
        assert!(entries.iter().any(|entry| entry.contains(" -")), "a time before 1970");
    }
}
