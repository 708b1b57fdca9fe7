//! The result files that arguments mean, and short names for them.

use std::fs;
use std::path::{Path, PathBuf};

use super::RESULT_FILE;

/// Folders below a folder are looked into so deep.
const DEEPEST: u32 = 8;

/// The files that are named, and the results in the folders that are named, sorted.
pub fn find(named: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            let mut below = Vec::new();
            search(path, DEEPEST, &mut below);
            below.sort();
            if below.is_empty() {
                // Reading it tells what is missing.
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
        // A link could lead in a circle.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && deeper > 0 => search(&entry.path(), deeper - 1, found),
            Ok(kind) if kind.is_file() && entry.file_name() == RESULT_FILE => found.push(entry.path()),
            _ => {}
        }
    }
}

/// What tells files from each other: their folders, without what all of them have in common.
pub fn labels(files: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = files.iter().map(|file| parts(file)).collect();
    let shortest = parts.iter().map(Vec::len).min().unwrap_or(0);
    let same = |at: &usize| parts.iter().all(|one| one[*at] == parts[0][*at]);
    // The last part of each stays, whatever the others have.
    let common = (0..shortest.saturating_sub(1)).take_while(same).count();
    parts.iter().map(|one| super::text::name(&one[common..].join("/"))).collect()
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
    fn names_are_what_differs() {
        let labels = |files: &[&str]| labels(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(labels(&["/a/b/result.json"]), ["b"]);
        assert_eq!(labels(&["/a/m/x/result.json", "/a/m/x/y/result.json", "/a/m/z/result.json"]), ["x", "x/y", "z"]);
        assert_eq!(labels(&["/a/base.json", "/a/new.json"]), ["base", "new"]);
        assert_eq!(labels(&["/a/result.json", "/a/b/result.json"]), ["a", "a/b"]);
    }
}
