//! Writes an HTML report on all results below a directory.
//!
//! `cargo run -p peerpath-report --example html -- results/reference/demo report.html`

use std::path::PathBuf;
use std::process::ExitCode;

use peerpath_report::document::{Document, Format};
use peerpath_report::saved;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let [results, out] = std::env::args_os().skip(1).map(PathBuf::from).collect::<Vec<_>>().try_into().map_err(
        |arguments: Vec<_>| {
            format!("expected a folder of results and an output file, got {} arguments", arguments.len())
        },
    )?;
    let document = Document::read(&saved::find(&[results]));
    for error in document.unreadable() {
        eprintln!("{error}");
    }
    if document.saved().is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    std::fs::write(&out, document.render(Format::Html)?)?;
    println!("{} results written to {}", document.saved().len(), out.display());
    Ok(ExitCode::SUCCESS)
}
