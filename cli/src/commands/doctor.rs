//! `peerpath doctor`.

mod live;
mod text;

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::doctor::{CHECKS, Selection, Status, run_checks};

use super::inspected_host::{self as host, Exporter, InspectOptions, is_gpu};
use crate::hints::CommandLine;
use crate::terminal::{self, print, print_json};
use crate::text_layout::hanging;

/// Check every precondition of a transfer and list what to fix first.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(super) struct Doctor {
    /// Exporter: a function, a BAR of it for VFIO, or a GPU, e.g. 0000:03:00.0, 0000:03:00.0:2, cuda:0  [default: check the
    /// host only]
    #[arg(long, value_name = "BDF[:BAR]|cuda:N")]
    from: Option<Exporter>,
    /// Importer, e.g. 0000:04:00.0 or verbs:mlx5_0
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    #[command(flatten)]
    inspect: InspectOptions,
}

fn help() -> String {
    let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let line = |name: &str, about: &str| hanging(&format!("  {name}"), width + 4, about, 80);
    let checks: String = CHECKS.iter().map(|check| line(check.name, check.about)).collect();
    format!(
        "\
Examples:
  peerpath doctor                            this host
  peerpath doctor --from 0000:03:00.0:2 --to verbs:mlx5_0
                                             an exporter and an importer
  peerpath doctor --from cuda:0 --to verbs:mlx5_0
                                             memory of a GPU, which the GPU's own driver exports
  peerpath doctor --root host.tar.gz --json  another host, from its snapshot

Checks:
{checks}
The command changes nothing. The exit status is 1 if a check failed."
    )
}

impl Doctor {
    pub(super) fn run(&self, command_line: &CommandLine) -> Result<ExitCode, Failure> {
        let tree = self.inspect.tree()?;
        let inventory = host::inventory(&tree);
        let is_live = tree.is_live();
        let from = match &self.from {
            // Not an error if the GPU is missing: see below.
            Some(from) if from.gpu().is_some() && is_live => from.function(&inventory, is_live).ok(),
            from => from.as_ref().map(|from| from.function(&inventory, is_live)).transpose()?,
        };
        let named = host::named(&inventory, self.to.as_deref())?;
        let to = match named.as_deref() {
            // Not an error if the GPU is missing: the checks report it, and a virtual machine may hide its PCI function.
            Some(text) if is_gpu(text) && is_live => host::importer(&inventory, text, is_live).ok(),
            text => text.map(|text| host::importer(&inventory, text, is_live)).transpose()?,
        };
        let selection = Selection {
            from,
            bar: self.from.as_ref().and_then(Exporter::bar),
            exporter_device: self.from.as_ref().and_then(Exporter::gpu).map(str::to_owned),
            to,
            device: named.as_deref().and_then(device),
            own_address_space: named.as_deref().is_some_and(host::has_own_address_space),
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

/// The RDMA device or GPU of a target, without port and mechanism.
fn device(target: &str) -> Option<String> {
    let is_device = target.starts_with("verbs:") || is_gpu(target);
    is_device.then(|| target.split(['/', '?']).next().unwrap_or(target).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_port_and_mechanism_from_a_device() {
        assert_eq!(device("verbs:mlx5_0/1").as_deref(), Some("verbs:mlx5_0"));
        assert_eq!(device("cuda:0?mechanism=external-fd").as_deref(), Some("cuda:0"));
        assert_eq!(device("0000:03:00.0"), None);
    }
}
