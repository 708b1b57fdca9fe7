//! Reports on results as HTML, Markdown, CSV, JUnit XML or OpenMetrics. See [`Document`].
//!
//! A report begins with the verdict, the host and the main figures with their ratio to host memory. It then shows the path of the
//! data and the reason for it, all figures, and warnings: files that are unreadable or incomplete, and conditions that may have
//! affected the figures. Every text of a result is escaped for the format.

mod charts;
mod colours;
mod csv;
mod describe;
mod html;
mod junit;
mod markdown;
mod matrix;
mod openmetrics;
mod pair;
mod pair_summary;
mod reasons;
mod route;
mod summary;

use std::path::PathBuf;

use crate::compare::Comparison;
use crate::saved::{self, Outcome, ReadError, Saved, SavedCell};
use pair::{Baselines, Pair};
use pair_summary::PairSummary;

/// Format of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page in one file. It contains no scripts and loads nothing.
    Html,
    /// A summary in GitHub's Markdown, for a pull request or an issue.
    Markdown,
    /// One row per cell.
    Csv,
    /// One test case per cell, for CI systems.
    Junit,
    /// Gauges for Prometheus, e.g. through the textfile collector of `node_exporter`.
    OpenMetrics,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Html, Self::Markdown, Self::Csv, Self::Junit, Self::OpenMetrics];

    /// Name on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Markdown => "md",
            Self::Csv => "csv",
            Self::Junit => "junit",
            Self::OpenMetrics => "openmetrics",
        }
    }

    /// Extension of file names, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Markdown => "md",
            Self::Csv => "csv",
            Self::Junit => "xml",
            Self::OpenMetrics => "prom",
        }
    }
}

/// The HTML template cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[error("cannot render the HTML template: {0}")]
pub struct RenderError(askama::Error);

/// A comparison for a section of the document.
#[derive(Debug, Clone)]
pub struct ComparisonWithBase {
    /// Name of the base result, for the heading.
    pub base: String,
    /// Comparison of that result with the result of the document.
    pub comparison: Comparison,
}

/// A report on one or more results.
#[derive(Debug)]
pub struct Document {
    saved: Vec<Saved>,
    labels: Vec<String>,
    unreadable: Vec<ReadError>,
    comparison: Option<ComparisonWithBase>,
}

/// Speed of a cell relative to the same operation on host memory in the same result: 1.0 is equal. `None` without such a cell.
pub(crate) fn baseline_share(saved: &Saved, cell: &SavedCell) -> Option<f64> {
    Baselines::of(std::slice::from_ref(saved)).share(0, cell)
}

impl Document {
    /// Reads result files. The document names the files that cannot be read: see [`Document::unreadable`].
    pub fn read(files: &[PathBuf]) -> Self {
        let (mut saved, mut unreadable) = (Vec::new(), Vec::new());
        let mut limit = saved::MemoryLimit::for_results();
        for file in files {
            match saved::read_within(file, &mut limit) {
                Ok(one) => saved.push(one),
                Err(error) => unreadable.push(error),
            }
        }
        let labels = saved::labels(&saved.iter().map(|one| one.file.clone()).collect::<Vec<_>>());
        Self { saved, labels, unreadable, comparison: None }
    }

    /// Adds a section with a comparison.
    #[must_use]
    pub fn with_comparison(self, comparison: ComparisonWithBase) -> Self {
        Self { comparison: Some(comparison), ..self }
    }

    /// The results that were read, in the order of the files.
    pub fn saved(&self) -> &[Saved] {
        &self.saved
    }

    /// Errors of the unreadable files.
    pub fn unreadable(&self) -> &[ReadError] {
        &self.unreadable
    }

    /// Renders the document.
    ///
    /// # Errors
    /// Returns an error if the HTML template cannot be rendered, which is a bug of this crate. The other formats never fail.
    pub fn render(&self, format: Format) -> Result<String, RenderError> {
        match format {
            Format::Html => html::render(self).map_err(RenderError),
            Format::Markdown => Ok(markdown::render(self)),
            Format::Csv => Ok(csv::render(self)),
            Format::Junit => Ok(junit::render(self)),
            Format::OpenMetrics => Ok(openmetrics::render(self)),
        }
    }

    /// The path and the figures of each pair of source and target, in one sentence per pair.
    pub fn conclusions(&self) -> Vec<String> {
        let (pairs, baselines) = (self.pairs(), self.baselines());
        self.pair_summaries(&pairs, &baselines).iter().map(PairSummary::sentence).collect()
    }

    fn pairs(&self) -> Vec<Pair<'_>> {
        pair::pairs(&self.saved)
    }

    fn baselines(&self) -> Baselines<'_> {
        Baselines::of(&self.saved)
    }

    fn pair_summaries<'a>(&'a self, pairs: &[Pair<'a>], baselines: &Baselines<'a>) -> Vec<PairSummary> {
        pairs.iter().map(|pair| PairSummary::of(pair, baselines)).collect()
    }

    fn title(&self) -> String {
        match self.labels.as_slice() {
            [only] => format!("Data paths: {only}"),
            _ => "Data paths".to_owned(),
        }
    }

    /// The number of results and cells, by outcome.
    fn summary(&self) -> String {
        let cells = || self.saved.iter().flat_map(|saved| &saved.cells);
        let count = |outcome| cells().filter(|cell| cell.outcome == outcome).count();
        let outcomes = [Outcome::Passed, Outcome::Waived, Outcome::Failed, Outcome::Unknown];
        let counted = outcomes.map(|outcome| (count(outcome), outcome.as_str()));
        let outcomes: Vec<String> =
            counted.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        let results = describe::plural(self.saved.len(), "result");
        if outcomes.is_empty() {
            return format!("{results} without cells");
        }
        format!("{results}, {}: {}", describe::plural(cells().count(), "cell"), outcomes.join(", "))
    }

    /// Warnings that apply to all values of a result.
    fn banners(&self) -> Vec<String> {
        let mut banners = Vec::new();
        let mut warn = |applies: fn(&Saved) -> bool, all: &str, some: &str| {
            let those: Vec<&str> = self
                .saved
                .iter()
                .zip(&self.labels)
                .filter(|(saved, _)| applies(saved))
                .map(|(_, label)| label.as_str())
                .collect();
            if !those.is_empty() {
                let every = those.len() == self.saved.len();
                banners.push(if every { all.to_owned() } else { format!("{some} Results: {}.", those.join(", ")) });
            }
        };
        warn(
            |saved| saved.environment.emulated == Some(true),
            "The devices are emulated. The kernel's decisions, the mappings and the data are real, but CPUs of the emulating host \
             move the data: latency and throughput do not describe hardware.",
            "Some devices are emulated, and CPUs of the emulating host move the data: latency and throughput do not describe \
             hardware.",
        );
        warn(
            |saved| saved.environment.soft_rdma == Some(true),
            "A CPU moved the data (soft RDMA). Each path is the one that the kernel chose for the device, but the data did not pass \
             the hops of that path: latency and throughput do not rank the paths.",
            "In some results a CPU moved the data (soft RDMA). Each path is the one that the kernel chose for the device, but the \
             data did not pass the hops of that path: latency and throughput do not rank the paths.",
        );
        banners
    }

    /// Errors of the unreadable files, and the remarks on the files that were read ([`Saved::remarks`]).
    fn problems(&self) -> Vec<String> {
        let errors = self.unreadable.iter().map(ToString::to_string);
        let remarks = self.saved.iter().flat_map(|saved| {
            let file = saved::clean_name(&saved.file.to_string_lossy());
            saved.remarks.iter().map(move |remark| format!("{file}: {remark}"))
        });
        errors.chain(remarks).collect()
    }
}
