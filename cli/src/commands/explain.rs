//! `peerpath explain`.

mod errno;
mod host_names;
mod log;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use peerpath_bench::failure::Failure;
use peerpath_paths::{
    Facts, MemoryKind, NamedCall, Step, Tree, call_in, errno_in, errno_name, input_file, kernel_log, parse_errno,
};

use self::host_names::HostNames;
use crate::hints::CommandLine;
use crate::similar::closest;

/// Explain an errno of the kernel, or lines of the kernel log: cause, reason and remedy.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(super) struct Explain {
    /// Errno as a name, a number or an error message that contains it; a file with a kernel log; or - for standard input
    /// [default: standard input]
    #[arg(value_name = "ERRNO|FILE", allow_hyphen_values = true)]
    what: Option<String>,
    /// Step that returned the errno, e.g. register-dma-buf  [default: the call in the message, or every step with a documented meaning]
    #[arg(long, value_name = "STEP", value_parser = parse_step)]
    step: Option<NamedCall>,
    /// Kind of the memory: a BAR that VFIO exports, memory of a GPU, or ordinary memory
    #[arg(long, value_name = "KIND")]
    source: Option<Source>,
    /// Driver of the importer, e.g. mlx5_core
    #[arg(long, value_name = "NAME")]
    driver: Option<String>,
    /// Print only recognized lines of the log
    #[arg(long)]
    only: bool,
    /// Also explain lines of the log that report normal operation
    #[arg(long)]
    all: bool,
    /// Snapshot of the host that wrote the log, also unpacked (a directory with `sys` and `proc`), to name its functions  [default: this host for standard input; none for a file]
    #[arg(long, value_name = "SNAPSHOT.tar.gz|DIR")]
    root: Option<PathBuf>,
    /// Print JSON: an array for an errno, one line per recognized line of a log
    #[arg(long)]
    json: bool,
}

/// Accepts the name of a step or of a call, in the forms of [`NamedCall`].
fn parse_step(text: &str) -> Result<NamedCall, String> {
    text.parse().map_err(|_| {
        let names = || Step::all().map(Step::name);
        let all = names().chain(Step::all().flat_map(|step| step.aliases().iter().copied()));
        suggestion(text, all, &format!("use one of {}", names().collect::<Vec<_>>().join(", ")))
    })
}

fn help() -> String {
    let width = Step::all().map(|step| step.name().len()).max().unwrap_or(0);
    let steps: String = Step::all().map(|step| format!("  {:<width$}  {}\n", step.name(), step.as_str())).collect();
    format!(
        "\
Examples:
  peerpath explain EINVAL --step register-dma-buf
      an errno of a dma-buf registration
  peerpath explain 524 --step register-dma-buf --source gpu
      the same for memory of a GPU
  peerpath explain \"Couldn't allocate MR with error=14\"
      an error message of a program
  dmesg | peerpath explain
      the kernel log with explanations
  dmesg -w | peerpath explain --only
      only explained lines, as they arrive
  peerpath explain dmesg.txt --json
      a saved log

Steps:
{steps}
--step also accepts names of calls, such as ibv_reg_mr or VFIO_IOMMU_MAP_DMA. Unknown lines of a log pass through unchanged.

Exit status: 0, 2 for invalid input or an unknown errno, 4 after an I/O error."
    )
}

/// Kind of the memory that an importer maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    Vfio,
    Gpu,
    Memory,
}

impl From<Source> for MemoryKind {
    fn from(source: Source) -> Self {
        match source {
            Source::Vfio => Self::VfioBar,
            Source::Gpu => Self::Gpu,
            Source::Memory => Self::Host,
        }
    }
}

impl Explain {
    pub(super) fn run(&self, command_line: &CommandLine) -> Result<ExitCode, Failure> {
        let input = self.what.as_deref().map_or(Ok(Input::Standard), Input::parse)?;
        match input {
            Input::Errno(errno) => {
                let call = self.step.or_else(|| self.what.as_deref().and_then(call_in));
                let facts = Facts {
                    source: self.source.map(MemoryKind::from).or(call.and_then(|call| call.source)),
                    driver: self.driver.clone(),
                    ..Facts::default()
                };
                errno::explain(errno, call.map(|call| call.step), &facts, self.json, command_line)
            }
            _ if self.step.is_some() => Err(Failure::bad_input(
                "cannot explain a step without an errno",
                "--step applies to an errno, not to a kernel log",
                "name the errno, e.g. `peerpath explain EINVAL --step register`",
            )),
            Input::Standard if self.what.is_none() && io::stdin().is_terminal() => Err(Failure::bad_input(
                "nothing to explain",
                "standard input is a terminal",
                "name an errno, e.g. `peerpath explain EINVAL`, or run `dmesg | peerpath explain`",
            )),
            Input::Standard => self.log(io::stdin().lock(), true),
            Input::Line(line) => self.log(line.as_bytes(), false),
            Input::File(path) => {
                let file = input_file::open(&path).map_err(|error| {
                    let remedy = "name a text file, or pipe the log into `peerpath explain`, e.g. from `dmesg -w`";
                    Failure::unreadable(format!("cannot open {}", path.display()), &error, error.remedy(&path, remedy))
                })?;
                self.log(file, false)
            }
        }
    }

    fn log(&self, input: impl io::Read, is_this_host: bool) -> Result<ExitCode, Failure> {
        let names = match &self.root {
            Some(root) => HostNames::of(Tree::open(root)?, ""),
            None if is_this_host => HostNames::of(Tree::live(), " on this host"),
            None => HostNames::none(),
        };
        let options = log::Options { only: self.only, routine: self.all, json: self.json };
        log::explain(input, options, names)
    }
}

/// Errnos are below this number: `MAX_ERRNO` of the kernel is 4095.
const MAX_ERRNO: i32 = 4096;

fn options() -> Vec<String> {
    let command = Explain::augment_args(Command::new("explain"));
    command.get_arguments().filter_map(|option| Some(format!("--{}", option.get_long()?))).collect()
}

fn suggestion<T: AsRef<str>>(text: &str, names: impl IntoIterator<Item = T>, otherwise: &str) -> String {
    closest(text, names).map_or_else(|| otherwise.to_owned(), |name| format!("did you mean {}?", name.as_ref()))
}

/// What to explain.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Errno(i32),
    Standard,
    File(PathBuf),
    /// A line of the kernel log.
    Line(String),
}

impl Input {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Standard);
        }
        if let Some(errno) = parse_errno(text) {
            return Ok(Self::Errno(errno));
        }
        let path = PathBuf::from(text);
        if path.exists() {
            return Ok(Self::File(path));
        }
        // A line of the kernel log can contain an errno, so try it before an error message of a program.
        if kernel_log::explain(text).is_some() {
            return Ok(Self::Line(format!("{text}\n")));
        }
        // An error message can start with a hyphen, e.g. "-22 (Invalid argument)", so clap also passes misspelt options to this
        // argument.
        let is_option = text.starts_with('-') && !text[1..].starts_with(|letter: char| letter.is_ascii_digit());
        if is_option {
            return Err(Failure::bad_input(
                format!("unexpected argument {text:?}"),
                "this command has no such option",
                suggestion(text, options().iter().map(String::as_str), "run `peerpath explain --help` for the options"),
            ));
        }
        errno_in(text).map(Self::Errno).ok_or_else(|| {
            Failure::bad_input(
                format!("cannot explain {text:?}"),
                "it is not an errno, a message with an errno, a known line of the kernel log, or a file",
                suggestion(
                    text,
                    (1..MAX_ERRNO).filter_map(errno_name),
                    "use a name such as EINVAL, a number such as 22, or a file with the output of dmesg",
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_errnos_files_and_lines_apart() {
        assert_eq!(Input::parse("-").unwrap(), Input::Standard);
        assert_eq!(Input::parse("-22").unwrap(), Input::Errno(22));
        assert_eq!(Input::parse("Couldn't allocate MR with error=14").unwrap(), Input::Errno(14));
        assert_eq!(Input::parse("Cargo.toml").unwrap(), Input::File("Cargo.toml".into()));
        let line = "mlx5_core 0000:08:00.1: mlx5_cmd_out_err: CREATE_MKEY(0x200) op_mod(0x0) failed, status bad (0x3), err(-22)";
        assert!(matches!(Input::parse(line).unwrap(), Input::Line(_)));
        assert_eq!(Input::parse("-22 (Invalid argument)").unwrap(), Input::Errno(22));
        assert_eq!(Input::parse("0x16").unwrap(), Input::Errno(22));
        assert!(Input::parse("--josn").unwrap_err().to_string().contains("unexpected argument"));
        assert!(Input::parse("nonsense").unwrap_err().to_string().contains("nonsense"));
    }
}
