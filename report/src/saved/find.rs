//! Finds result files, and short names for them.

use std::fs;
use std::path::{Path, PathBuf};

use super::RESULT_FILE;

/// Maximum depth of the search below a directory.
const MAX_DEPTH: u32 = 8;

/// Lists the result files that `named` refers to.
///
/// A file is listed as it is. A directory is replaced by every `result.json` in it and up to eight levels below it, sorted; links
/// to directories are not followed. A directory without a result is replaced by the path of the missing `result.json`, so that
/// reading it reports the error. A file is listed once, in the order of `named`.
pub fn find(named: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            let mut below = Vec::new();
            search(path, MAX_DEPTH, &mut below);
            below.sort();
            if below.is_empty() {
                // This file does not exist. Reading it reports the error.
                below.push(path.join(RESULT_FILE));
            }
            files.extend(below);
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = Vec::new();
    files.retain(|file| {
        !seen.contains(file) && {
            seen.push(file.clone());
            true
        }
    });
    files
}

fn search(folder: &Path, deeper: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // A symbolic link has another type and is not followed: links could recurse forever.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && deeper > 0 => search(&entry.path(), deeper - 1, found),
            Ok(kind) if kind.is_file() && entry.file_name() == RESULT_FILE => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Short names that distinguish result files: their directories, without the leading directories that all of them share.
///
/// `a/m/x/result.json` and `a/m/y/result.json` become `x` and `y`. The order is that of `files`.
pub fn labels(files: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = files.iter().map(|file| parts(file)).collect();
    let shortest = parts.iter().map(Vec::len).min().unwrap_or(0);
    let same = |at: &usize| parts.iter().all(|one| one[*at] == parts[0][*at]);
    // Each name keeps at least its last part.
    let common = (0..shortest.saturating_sub(1)).take_while(same).count();
    parts.iter().map(|one| super::sanitize::clean_name(&one[common..].join("/"))).collect()
}

fn parts(file: &Path) -> Vec<String> {
    let whole = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let named = if file.file_name().is_some_and(|name| name == RESULT_FILE) {
        whole.parent().map(Path::to_owned).unwrap_or_default()
    } else {
        whole.with_extension("")
    };
    named.iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_parts_that_differ() {
        let labels = |files: &[&str]| labels(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(labels(&["/a/b/result.json"]), ["b"]);
        assert_eq!(labels(&["/a/m/x/result.json", "/a/m/x/y/result.json", "/a/m/z/result.json"]), ["x", "x/y", "z"]);
        assert_eq!(labels(&["/a/base.json", "/a/new.json"]), ["base", "new"]);
        assert_eq!(labels(&["/a/result.json", "/a/b/result.json"]), ["a", "a/b"]);
    }
}
