//! Steps that the libraries report, on standard error: `--verbose` and `--quiet`.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::terminal;

struct Steps;

impl Log for Steps {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("peerpath")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let head = if record.level() == Level::Warn { "warning: " } else { "  " };
        terminal::note(&format!("{head}{}", record.args()));
    }

    fn flush(&self) {}
}

/// Prints steps from now on: with `verbose` 1 the changes of the host and what is opened, with 2 everything.
pub(crate) fn install(quiet: bool, verbose: u8) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::Off,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, _) => LevelFilter::Debug,
    };
    // Fails only if another logger is installed, and there is none.
    let _ = log::set_logger(&Steps);
    log::set_max_level(level);
}

/// Whether to print only results and errors.
pub(crate) fn is_quiet() -> bool {
    log::max_level() == LevelFilter::Off
}

/// Whether steps are printed.
pub(crate) fn is_verbose() -> bool {
    log::max_level() > LevelFilter::Warn
}
