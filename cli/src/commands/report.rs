//! `peerpath report`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use peerpath_bench::failure::Failure;
use peerpath_report::compare::Options;
use peerpath_report::document::{ComparisonWithBase, Document, Format};
use peerpath_report::saved;

use super::compare::{compared, read, threshold, unreadable};
use crate::terminal::{self, print};

/// Make a page of results: which path, how fast, compared with what, and can that be trusted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath report results/demo/result.json             writes results/demo/report.html: one file, opened in any browser
  peerpath report results/reference/matrix             every result.json below a folder, in one page
  peerpath report run --format md --out -              a summary for a pull request
  peerpath report run --format html,md,csv --out-dir shared
  peerpath report after --base before                  with a section that compares the two

The page loads nothing and runs nothing, so it can be mailed. A snapshot.tar.gz beside a result that does not say which hops its \
data passed (one of an older version) is asked for them.

Exit: 0 written; 2 bad input: a file that is no result is named, on the page too, and the others are reported all the same.")]
pub(super) struct Report {
    /// Results: files, or folders that have some below them
    #[arg(value_name = "RESULT.json", required = true)]
    results: Vec<PathBuf>,
    /// What to write: html, md, csv
    #[arg(
        long,
        value_name = "FORMAT,...",
        value_parser = formats(),
        value_delimiter = ',',
        default_value = "html",
        hide_possible_values = true
    )]
    format: Vec<Format>,
    /// The file to write, - for standard output  [default: report.FORMAT beside the first result]
    #[arg(long, value_name = "FILE", conflicts_with = "out_dir")]
    out: Option<PathBuf>,
    /// The folder to write report.FORMAT into
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// An earlier result to compare with, where there is one result to compare
    #[arg(long, value_name = "BASE.json")]
    base: Option<PathBuf>,
    /// Changes of at most so many percent do not count in that
    #[arg(long, value_name = "PCT", default_value = "5", value_parser = threshold)]
    threshold: f64,
    /// Compare also what cannot be compared
    #[arg(long)]
    force: bool,
}

/// Formats by the extension of their files.
fn formats() -> impl TypedValueParser<Value = Format> {
    let named = |name: String| Format::ALL.into_iter().find(|format| format.extension() == name);
    PossibleValuesParser::new(Format::ALL.map(Format::extension))
        .map(move |name| named(name).expect("clap checked the name"))
}

impl Report {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let mut formats = self.format.clone();
        formats.dedup();
        if self.out.is_some() && formats.len() > 1 {
            return Err(Failure::bad_input(
                "several formats do not go into one file",
                "--out names one file, and --format several formats",
                "name a folder with --out-dir",
            ));
        }
        let document = Document::read(&saved::find(&self.results));
        for error in document.unreadable() {
            terminal::report(&unreadable(error));
        }
        if document.saved().is_empty() {
            return Err(Failure::bad_input(
                "there is nothing to report",
                "none of the files is a result",
                "name the result.json that `peerpath run` has saved, or its folder",
            ));
        }
        let any_unreadable = !document.unreadable().is_empty();
        let document = self.with_base(document)?;
        for format in formats {
            self.write(&document, format)?;
        }
        Ok(ExitCode::from(if any_unreadable { 2 } else { 0 }))
    }

    fn with_base(&self, document: Document) -> Result<Document, Failure> {
        let Some(base) = &self.base else { return Ok(document) };
        let [new] = document.saved() else {
            return Err(Failure::bad_input(
                "--base is for one result",
                format!("there are {} results to compare with it", document.saved().len()),
                "name one result, or leave --base away",
            ));
        };
        let options = Options { threshold_percent: self.threshold, force: self.force };
        let earlier = read(base)?;
        let comparison = compared(&earlier, new, options)?;
        let base = saved::clean_name(&earlier.file.to_string_lossy());
        Ok(document.with_comparison(ComparisonWithBase { base, comparison }))
    }

    fn write(&self, document: &Document, format: Format) -> Result<(), Failure> {
        let text = document
            .render(format)
            .map_err(|error| Failure::internal("cannot make the report", &error, "report this as a bug"))?;
        if self.out.as_deref() == Some(Path::new("-")) {
            return print(&text);
        }
        let file = match (&self.out, &self.out_dir) {
            (Some(file), _) => file.clone(),
            (None, Some(folder)) => folder.join("report").with_extension(format.extension()),
            (None, None) => beside(document, format),
        };
        save(&file, &text).map_err(|error| {
            let what = format!("cannot write the report to {}", file.display());
            Failure::internal(what, &error, "choose a place that can be written and has room, with --out")
        })?;
        print(&format!("written to {}\n", file.display()))
    }
}

/// In the folder that was named, or beside the first result.
fn beside(document: &Document, format: Format) -> PathBuf {
    let first = document.saved().first().map(|saved| saved.file.with_file_name("report"));
    first.unwrap_or_else(|| PathBuf::from("report")).with_extension(format.extension())
}

/// Beside the file first, then in its place: nobody opens half a page.
fn save(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut beside = tempfile::Builder::new().prefix(".report-").tempfile_in(folder)?;
    beside.write_all(text.as_bytes())?;
    // A temporary file is private to its owner; a report is for sharing.
    beside.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    beside.as_file().sync_all()?;
    beside.persist(file).map_err(|error| error.error)?;
    Ok(())
}
