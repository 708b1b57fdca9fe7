//! Results as a page that answers: which path, how fast, compared with what, and can that be trusted.
//!
//! Results become [`pair`]s, pairs become [`verdict`]s, a [`matrix`], [`route`]s and [`pictures`]; these hold text and figures
//! only, and one file a format makes a document of them. Nothing from a result gets into a document but through what escapes it.

mod chart;
mod csv;
mod describe;
mod figure;
mod html;
mod markdown;
mod matrix;
mod pair;
mod pictures;
mod published;
mod route;
mod trouble;
mod verdict;

use std::path::PathBuf;

use crate::compare::Comparison;
use crate::saved::{self, Outcome, Saved, Unread};
use pair::{Baselines, Pair};
use verdict::Verdict;

/// The HTML template cannot be filled.
#[derive(Debug, thiserror::Error)]
#[error("cannot fill the template of the report")]
pub struct RenderError(#[from] askama::Error);

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One self-contained page.
    Html,
    /// A summary for a pull request or an issue.
    Md,
    /// A row a cell.
    Csv,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Html, Self::Md, Self::Csv];

    /// How its files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Md => "md",
            Self::Csv => "csv",
        }
    }
}

/// A comparison with an earlier result, and what that is called.
pub struct Compared {
    /// The earlier result.
    pub base: String,
    /// What came of it.
    pub made: Comparison,
}

/// What a report is made of.
pub struct Document {
    saved: Vec<Saved>,
    labels: Vec<String>,
    unread: Vec<Unread>,
    comparison: Option<Compared>,
}

impl Document {
    /// Reads the files; those that are no results are named in the document.
    pub fn read(files: &[PathBuf]) -> Self {
        let (mut saved, mut unread) = (Vec::new(), Vec::new());
        for file in files {
            match saved::read(file) {
                Ok(one) => saved.push(one),
                Err(why) => unread.push(why),
            }
        }
        let labels = saved::labels(&saved.iter().map(|one| one.file.clone()).collect::<Vec<_>>());
        Self { saved, labels, unread, comparison: None }
    }

    /// With a section that sets it against an earlier result.
    #[must_use]
    pub fn compared(self, comparison: Compared) -> Self {
        Self { comparison: Some(comparison), ..self }
    }

    /// The results that could be read.
    pub fn saved(&self) -> &[Saved] {
        &self.saved
    }

    /// The files that could not be read.
    pub fn unread(&self) -> &[Unread] {
        &self.unread
    }

    /// The document.
    ///
    /// # Errors
    /// The template cannot be filled: a bug.
    pub fn render(&self, format: Format) -> Result<String, RenderError> {
        match format {
            Format::Html => Ok(html::render(self)?),
            Format::Md => Ok(markdown::render(self)),
            Format::Csv => Ok(csv::render(self)),
        }
    }

    fn pairs(&self) -> Vec<Pair<'_>> {
        pair::pairs(&self.saved)
    }

    fn baselines(&self) -> Baselines<'_> {
        Baselines::of(&self.saved)
    }

    fn verdicts<'a>(&'a self, pairs: &[Pair<'a>], baselines: &Baselines<'a>) -> Vec<Verdict> {
        pairs.iter().map(|pair| Verdict::of(pair, baselines)).collect()
    }

    fn title(&self) -> String {
        match self.labels.as_slice() {
            [only] => format!("Data paths: {only}"),
            _ => "Data paths".to_owned(),
        }
    }

    /// What there is, in a line.
    fn summary(&self) -> String {
        let cells = || self.saved.iter().flat_map(|saved| &saved.cells);
        let count = |outcome| cells().filter(|cell| cell.outcome == outcome).count();
        let outcomes = [Outcome::Passed, Outcome::Waived, Outcome::Failed, Outcome::Unsaid];
        let counted = outcomes.map(|outcome| (count(outcome), outcome.as_str()));
        let told: Vec<String> =
            counted.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        let results = describe::plural(self.saved.len(), "result");
        format!("{results}, {}: {}", describe::plural(cells().count(), "measurement"), told.join(", "))
    }

    /// What holds for all figures of the page, and has to be read before them.
    fn banners(&self) -> Vec<String> {
        let mut banners = Vec::new();
        let mut tell = |one: fn(&Saved) -> bool, all: &str, some: &str| {
            let those: Vec<&str> = self
                .saved
                .iter()
                .zip(&self.labels)
                .filter(|(saved, _)| one(saved))
                .map(|(_, label)| label.as_str())
                .collect();
            if !those.is_empty() {
                let every = those.len() == self.saved.len();
                banners.push(if every {
                    all.to_owned()
                } else {
                    format!("{some} Of these results: {}.", those.join(", "))
                });
            }
        };
        tell(
            |saved| saved.environment.emulated == Some(true),
            "The devices are emulated: what the kernel decides and maps is real and so are the data, but processors of the emulating \
             machine move them, and the figures say nothing of hardware.",
            "Some devices are emulated, so processors of the emulating machine move the data: figures say nothing of hardware.",
        );
        tell(
            |saved| saved.environment.soft_rdma == Some(true),
            "A CPU did the copying (soft RDMA): a path here is what the kernel decided and mapped for the device, the bytes did not \
             pass the hops of it; latencies and throughputs do not rank the paths.",
            "A CPU did the copying (soft RDMA): paths are what the kernel decided and mapped, the bytes did not pass their hops; \
             latencies and throughputs of these results do not rank the paths.",
        );
        banners
    }

    /// What is wrong with the files.
    fn problems(&self) -> Vec<String> {
        let unread = self.unread.iter().map(ToString::to_string);
        let remarks = self.saved.iter().flat_map(|saved| {
            let file = saved::name(&saved.file.to_string_lossy());
            saved.remarks.iter().map(move |remark| format!("{file}: {remark}"))
        });
        unread.chain(remarks).collect()
    }
}
