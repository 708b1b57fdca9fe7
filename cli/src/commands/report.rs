//! `peerpath report`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use peerpath_bench::failure::Failure;
use peerpath_bench::store::{remedy, temporary_file};
use peerpath_report::compare::Options;
use peerpath_report::document::{ComparisonWithBase, Document, Format};
use peerpath_report::saved;

use super::compare::{compared, read, threshold, unreadable};
use crate::terminal::{self, notice, print};

/// Write a report on results: paths, latency, throughput, and measurements that failed or could not run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath report results/demo/result.json
      write results/demo/report.html
  peerpath report results/reference/matrix
      one report of every result.json below a directory
  peerpath report results/demo --format md --out -
      a summary for a pull request
  peerpath report results/demo --format html,md,csv --out-dir shared
      three formats
  peerpath report nightly --format junit,openmetrics
      report.xml for a CI system, report.prom for node_exporter
  peerpath report after --base before
      a report with a comparison of two results

A cell is one measurement; a waived cell could not run, for the stated reason.

The HTML file loads no other files and has no scripts. Results of earlier versions of peerpath do not \
list the PCI functions on the path; the report predicts them if a snapshot.tar.gz is beside the result.

Exit status:
  0  written
  2  invalid input; the report has the readable results
  4  I/O error")]
pub(super) struct Report {
    /// Results, or directories to search for result.json
    #[arg(value_name = "RESULT.json", required = true)]
    results: Vec<PathBuf>,
    /// Output formats: html, md, csv, junit (report.xml), openmetrics (report.prom)
    #[arg(
        long,
        value_name = "FORMAT,...",
        value_parser = formats(),
        value_delimiter = ',',
        default_value = "html",
        hide_possible_values = true
    )]
    format: Vec<Format>,
    /// Output file, or - for standard output  [default: report.html, .md, .csv, .xml or .prom in the directory of the first
    /// result]
    #[arg(long, value_name = "FILE", conflicts_with = "out_dir")]
    out: Option<PathBuf>,
    /// Output directory for the same file names
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// Earlier result to compare a single result with
    #[arg(long, value_name = "BASE.json")]
    base: Option<PathBuf>,
    /// Smallest change in percent that the comparison reports as better or worse
    #[arg(long, value_name = "PCT", default_value = "5", value_parser = threshold)]
    threshold: f64,
    /// With --base: also compare emulated devices with hardware, and soft RDMA with a NIC
    #[arg(long)]
    force: bool,
}

/// Parses a format by its name.
fn formats() -> impl TypedValueParser<Value = Format> {
    let named = |name: String| Format::ALL.into_iter().find(|format| format.as_str() == name);
    PossibleValuesParser::new(Format::ALL.map(Format::as_str))
        .map(move |name| named(name).expect("clap checked the name"))
}

impl Report {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let mut formats = self.format.clone();
        formats.dedup();
        if self.out.is_some() && formats.len() > 1 {
            return Err(Failure::bad_input(
                "cannot write several formats to one file",
                "--out names a file, and --format several formats",
                "use --out-dir",
            ));
        }
        let document = Document::read(&saved::find(&self.results));
        for error in document.unreadable() {
            terminal::report(&unreadable(error));
        }
        let any_unreadable = !document.unreadable().is_empty();
        if document.saved().is_empty() {
            // The error of the only file also explains the missing report.
            if document.unreadable().len() == 1 {
                return Ok(ExitCode::from(2));
            }
            return Err(Failure::bad_input(
                "cannot write a report",
                "none of the files is a result",
                "name a result.json that `peerpath run` has saved, or its directory",
            ));
        }
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
                "cannot compare several results with --base",
                format!("the report has {} results", document.saved().len()),
                "name one result, or omit --base",
            ));
        };
        let options = Options { threshold_percent: self.threshold, force: self.force };
        let earlier = read(base)?;
        let comparison = compared(&[&earlier], &[new], options)?;
        let base = saved::clean_name(&earlier.file.to_string_lossy());
        Ok(document.with_comparison(ComparisonWithBase { base, comparison }))
    }

    fn write(&self, document: &Document, format: Format) -> Result<(), Failure> {
        let text = document
            .render(format)
            .map_err(|error| Failure::internal("cannot render the report", &error, "report this as a bug"))?;
        if self.out.as_deref() == Some(Path::new("-")) {
            return print(&text);
        }
        let file = match (&self.out, &self.out_dir) {
            (Some(file), _) => file.clone(),
            (None, Some(folder)) => folder.join("report").with_extension(format.extension()),
            (None, None) => beside(document, format),
        };
        save(&file, &text).map_err(|error| {
            let what = format!("cannot write the report {}", file.display());
            Failure::internal(what, &error, remedy(&error))
        })?;
        notice(&format!("written to {}\n", file.display()))
    }
}

/// `report` with the extension of the format, in the directory of the first result.
fn beside(document: &Document, format: Format) -> PathBuf {
    let first = document.saved().first().map(|saved| saved.file.with_file_name("report"));
    first.unwrap_or_else(|| PathBuf::from("report")).with_extension(format.extension())
}

/// Writes a temporary file and renames it: the file never has partial content.
fn save(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut beside = temporary_file(folder, ".report-")?;
    beside.write_all(text.as_bytes())?;
    // Temporary files have mode 0600; other users may read a report.
    beside.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    beside.as_file().sync_all()?;
    beside.persist(file).map_err(|error| error.error)?;
    Ok(())
}
