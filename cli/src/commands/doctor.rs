//! `peerpath doctor`.

mod live;
mod text;

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::Bdf;
use peerpath_paths::doctor::{CHECKS, Selection, Status, run_checks};

use super::host::{self, Look};
use crate::terminal::{self, print, print_json};

/// Check everything that has to hold before data can move, and say what to put right first.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(super) struct Doctor {
    /// Exporter: a function, and perhaps its BAR  [default: the host is checked]
    #[arg(long, value_name = "BDF[:BAR]")]
    from: Option<Exporter>,
    /// Importer: a function, or a target such as verbs:mlx5_0
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    #[command(flatten)]
    look: Look,
}

fn help() -> String {
    let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let checks: String = CHECKS.iter().map(|check| format!("  {:<width$}  {}\n", check.name, check.about)).collect();
    format!(
        "\
Examples:
  peerpath doctor                                  what this host lacks, most important first
  peerpath doctor --from 0000:03:00.0:2 --to verbs:mlx5_0
  peerpath doctor --root host.tar.gz --json        another host, from its snapshot

Checks:
{checks}
It changes nothing. It ends with 1 where a check failed."
    )
}

/// `0000:03:00.0` or `0000:03:00.0:2`.
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
        let wrong = || "an exporter is a function and perhaps a BAR, such as 0000:03:00.0 or 0000:03:00.0:2".to_owned();
        let (bdf, bar) = text.rsplit_once(':').ok_or_else(wrong)?;
        match (bdf.parse(), bar.as_bytes()) {
            (Ok(bdf), [digit @ b'0'..=b'5']) => Ok(Self { bdf, bar: Some(digit - b'0') }),
            (Ok(_), _) => Err("a BAR has a number from 0 to 5".to_owned()),
            (Err(_), _) => Err(wrong()),
        }
    }
}

impl Doctor {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let tree = self.look.tree()?;
        let inventory = host::inventory(&tree);
        let from = self.from.map(|from| host::known(&inventory, from.bdf)).transpose()?;
        let to = match self.to.as_deref() {
            // That there is no such GPU is a finding, and a machine need not show the function of one.
            Some(text) if is_gpu(text) => host::importer(&inventory, text).ok(),
            text => text.map(|text| host::importer(&inventory, text)).transpose()?,
        };
        let question = Selection {
            from,
            bar: self.from.and_then(|from| from.bar),
            to,
            device: self.to.as_deref().and_then(device),
            own_address_space: self.to.as_deref().is_some_and(host::has_own_address_space),
        };
        let live = tree.is_live().then(|| live::ask(&inventory, &question));
        let findings = run_checks(&tree, &inventory, &question, live.as_ref());
        if self.look.json {
            print_json(&findings)?;
        } else {
            print(&text::render(&findings, terminal::width()))?;
        }
        let failed = findings.iter().any(|finding| finding.status == Status::Fail);
        Ok(ExitCode::from(u8::from(failed)))
    }
}

fn is_gpu(target: &str) -> bool {
    target.starts_with("cuda:")
}

/// The RDMA device or the GPU in a target; a port or a mechanism says nothing about preconditions of the device.
fn device(target: &str) -> Option<String> {
    let is_device = target.starts_with("verbs:") || is_gpu(target);
    is_device.then(|| target.split(['/', '?']).next().unwrap_or(target).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exporter_is_a_function_and_perhaps_a_bar() {
        let bdf = Bdf::new(0, 3, 0, 0).unwrap();
        assert_eq!("0000:03:00.0".parse(), Ok(Exporter { bdf, bar: None }));
        assert_eq!("0000:03:00.0:2".parse(), Ok(Exporter { bdf, bar: Some(2) }));
        for wrong in ["", "x", "0000:03:00.0:6", "0000:03:00.0:", "0000:03:00.9:1", "host:1M"] {
            assert!(wrong.parse::<Exporter>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_no_part_of_a_device() {
        assert_eq!(device("verbs:mlx5_0/1").as_deref(), Some("verbs:mlx5_0"));
        assert_eq!(device("cuda:0?mechanism=external-fd").as_deref(), Some("cuda:0"));
        assert_eq!(device("0000:03:00.0"), None);
    }
}
