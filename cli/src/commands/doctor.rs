//! `peerpath doctor`.

mod live;
mod text;

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::Bdf;
use peerpath_paths::doctor::{CHECKS, Selection, Status, run_checks};

use super::inspected_host::{self as host, InspectOptions};
use crate::hints::CommandLine;
use crate::terminal::{self, print, print_json};

/// Check every precondition of a transfer and list what to fix first.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(super) struct Doctor {
    /// Exporter, e.g. 0000:03:00.0, or a BAR of it, e.g. 0000:03:00.0:2  [default: check the host only]
    #[arg(long, value_name = "BDF[:BAR]")]
    from: Option<Exporter>,
    /// Importer, e.g. 0000:04:00.0 or verbs:mlx5_0
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    #[command(flatten)]
    inspect: InspectOptions,
}

fn help() -> String {
    let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let checks: String = CHECKS.iter().map(|check| format!("  {:<width$}  {}\n", check.name, check.about)).collect();
    format!(
        "\
Examples:
  peerpath doctor                            this host
  peerpath doctor --from 0000:03:00.0:2 --to verbs:mlx5_0
                                             an exporter and an importer
  peerpath doctor --root host.tar.gz --json  another host, from its snapshot

Checks:
{checks}
The command changes nothing. The exit status is 1 if a check failed."
    )
}

/// Function with an optional BAR, e.g. `0000:03:00.0` or `0000:03:00.0:2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exporter {
    bdf: Bdf,
    bar: Option<u8>,
}

impl std::str::FromStr for Exporter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(bdf) = text.parse() {
            return Ok(Self { bdf, bar: None });
        }
        let wrong = || "use a function or a BAR of it, e.g. 0000:03:00.0 or 0000:03:00.0:2".to_owned();
        let (bdf, bar) = text.rsplit_once(':').ok_or_else(wrong)?;
        match (bdf.parse(), bar.as_bytes()) {
            (Ok(bdf), [digit @ b'0'..=b'5']) => Ok(Self { bdf, bar: Some(digit - b'0') }),
            (Ok(_), _) => Err("the BAR must be a number from 0 to 5".to_owned()),
            (Err(_), _) => Err(wrong()),
        }
    }
}

impl Doctor {
    pub(super) fn run(&self, command_line: &CommandLine) -> Result<ExitCode, Failure> {
        let tree = self.inspect.tree()?;
        let inventory = host::inventory(&tree);
        let from = self.from.map(|from| host::known(&inventory, from.bdf)).transpose()?;
        let to = match self.to.as_deref() {
            // Not an error if the GPU is missing: the checks report it, and a virtual machine may hide its PCI function.
            Some(text) if is_gpu(text) => host::importer(&inventory, text).ok(),
            text => text.map(|text| host::importer(&inventory, text)).transpose()?,
        };
        let selection = Selection {
            from,
            bar: self.from.and_then(|from| from.bar),
            to,
            device: self.to.as_deref().and_then(device),
            own_address_space: self.to.as_deref().is_some_and(host::has_own_address_space),
        };
        let live = tree.is_live().then(|| live::ask(&inventory, &selection));
        let findings = run_checks(&tree, &inventory, &selection, live.as_ref());
        if self.inspect.json {
            print_json(&findings)?;
        } else {
            print(&text::render(&findings, command_line, terminal::width()))?;
        }
        let failed = findings.iter().any(|finding| finding.status == Status::Fail);
        Ok(ExitCode::from(u8::from(failed)))
    }
}

fn is_gpu(target: &str) -> bool {
    target.starts_with("cuda:")
}

/// The RDMA device or GPU of a target, without port and mechanism.
fn device(target: &str) -> Option<String> {
    let is_device = target.starts_with("verbs:") || is_gpu(target);
    is_device.then(|| target.split(['/', '?']).next().unwrap_or(target).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_function_with_or_without_a_bar() {
        let bdf = Bdf::new(0, 3, 0, 0).unwrap();
        assert_eq!("0000:03:00.0".parse(), Ok(Exporter { bdf, bar: None }));
        assert_eq!("0000:03:00.0:2".parse(), Ok(Exporter { bdf, bar: Some(2) }));
        for wrong in ["", "x", "0000:03:00.0:6", "0000:03:00.0:", "0000:03:00.9:1", "host:1M"] {
            assert!(wrong.parse::<Exporter>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn strips_port_and_mechanism_from_a_device() {
        assert_eq!(device("verbs:mlx5_0/1").as_deref(), Some("verbs:mlx5_0"));
        assert_eq!(device("cuda:0?mechanism=external-fd").as_deref(), Some("cuda:0"));
        assert_eq!(device("0000:03:00.0"), None);
    }
}
