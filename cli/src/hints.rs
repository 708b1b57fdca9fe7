//! Hints: options and commands that help with a failure. The libraries explain failures without naming options.

use std::ffi::OsString;

use peerpath_bench::failure::Failure;
use peerpath_paths::{Bdf, Cause, Severity};

/// Sentence that names an option or a command, and the failures that it applies to.
struct Hint {
    /// Causes of the failure; empty for any or no cause.
    causes: &'static [Cause],
    /// Text that the remedy must contain; empty for any remedy. Failures with one cause can need different options.
    topic: &'static str,
    /// Commands that the hint applies to.
    commands: &'static [&'static str],
    /// Text of an option or a command: the hint is omitted if the remedy or the command line already contains it.
    names: &'static str,
    sentence: &'static str,
}

/// Commands that open devices.
const OPENING: &[&str] = &["run", "serve", "export"];

/// The first matching hint applies.
const HINTS: &[Hint] = &[
    Hint {
        causes: &[Cause::InUse],
        topic: "Stop these uses.",
        commands: &["run", "bind"],
        names: "--force-in-use",
        sentence: "To unbind the function anyway, add --force-in-use.",
    },
    Hint {
        causes: &[Cause::DriverNotVfio],
        topic: "to vfio-pci",
        commands: &["run", "serve", "export", "doctor", "explain"],
        names: "peerpath bind",
        sentence: "`peerpath bind BDF` does this, and `peerpath restore` reverts it.",
    },
    Hint {
        causes: &[Cause::GroupNotViable],
        topic: "",
        commands: &["run", "serve", "export", "doctor"],
        names: "peerpath bind",
        sentence: "Bind the other functions of the group with `peerpath bind BDF...`, except the importer.",
    },
    Hint {
        causes: &[Cause::NoDevice],
        topic: "exporting program",
        commands: &["run", "serve"],
        names: "peerpath export",
        sentence: "To export a BAR, use `peerpath export BDF:BAR --socket PATH`.",
    },
    Hint {
        causes: &[Cause::NoDevice],
        topic: "",
        commands: &["run", "serve", "export", "bind", "paths", "doctor"],
        names: "peerpath list",
        sentence: "`peerpath list --all` lists the functions and devices of a host.",
    },
    Hint {
        causes: &[Cause::BarNotExportable],
        topic: "",
        commands: OPENING,
        names: "peerpath list",
        sentence: "See `peerpath list` for the BARs that can be exported.",
    },
    Hint {
        causes: &[Cause::Removed],
        topic: "bind it again",
        commands: OPENING,
        names: "peerpath bind",
        sentence: "`peerpath bind BDF` binds a function to vfio-pci.",
    },
    Hint {
        causes: &[Cause::NoIommu, Cause::Noiommu, Cause::LegacyDmaOps, Cause::KernelTooOld],
        topic: "",
        commands: OPENING,
        names: "peerpath doctor",
        sentence: "Run `peerpath doctor` to list what to fix on this host.",
    },
    Hint {
        causes: &[Cause::Topology, Cause::PathMismatch],
        topic: "",
        commands: &["run"],
        names: "peerpath paths",
        sentence: "`peerpath paths --from BDF --to TARGET` prints the fact that determines the path.",
    },
    Hint {
        causes: &[Cause::ImporterNotP2p, Cause::ImporterNotRevocable, Cause::ImporterNoDmabuf],
        topic: "",
        commands: &["run"],
        names: "--path staged",
        sentence: "To measure a copy through host memory instead, use --path staged.",
    },
    Hint {
        causes: &[Cause::MechanismRefused],
        topic: "",
        commands: &["run"],
        names: "--mechanism",
        sentence: "Choose another mechanism with --mechanism.",
    },
    Hint {
        causes: &[Cause::MultiRangeDefect, Cause::OneRangeOnly],
        topic: "",
        commands: &["run"],
        names: "--mechanism",
        sentence: "To register each range separately, use --mechanism mr-per-range.",
    },
    Hint {
        causes: &[Cause::PacketsLost],
        topic: "",
        commands: &["run"],
        names: "--connection",
        sentence: "For a connection that retransmits lost packets, use --connection rc.",
    },
    Hint {
        causes: &[Cause::PeerLost],
        topic: "",
        commands: &["run"],
        names: "peerpath serve",
        sentence: "See the output of `peerpath serve` on the other host.",
    },
    Hint {
        causes: &[Cause::NoPermission],
        topic: "blocks",
        commands: &["run"],
        names: "--allow-write",
        sentence: "To allow writes to blocks of a drive, use --allow-write LBA+COUNT; their content is lost.",
    },
    // A smaller run would not avoid the limit of open files.
    Hint { causes: &[Cause::LimitReached], topic: "ulimit -n", commands: OPENING, names: "ulimit", sentence: "" },
    Hint {
        causes: &[Cause::LimitReached],
        topic: "",
        commands: &["run"],
        names: "--",
        sentence: "Smaller values of --size, --depth, --qps, --threads or --inline need fewer resources.",
    },
    Hint {
        causes: &[],
        topic: "replace or extend the earlier result",
        commands: &["run"],
        names: "--force",
        sentence: "Add --force to replace it, or --append to add cells to it.",
    },
    Hint {
        causes: &[],
        topic: "give the kernel command line",
        commands: &["doctor"],
        names: "--cmdline",
        sentence: "Use --cmdline TEXT|FILE.",
    },
    Hint {
        causes: &[],
        topic: "to describe the command line",
        commands: &["paths", "doctor", "list"],
        names: "--cmdline",
        sentence: "Use --cmdline TEXT|FILE.",
    },
    Hint {
        causes: &[],
        topic: "to describe the processor",
        commands: &["paths", "doctor", "list"],
        names: "--cpu",
        sentence: "Use --cpu TEXT|FILE.",
    },
    Hint {
        causes: &[],
        topic: "the server on the other host",
        commands: &["run"],
        names: "peerpath serve",
        sentence: "The server is `peerpath serve --from SRC --to verbs:DEV --listen HOST` on that host.",
    },
    Hint {
        causes: &[],
        topic: "MTU",
        commands: &["run", "serve"],
        names: "--mtu",
        sentence: "--mtu BYTES sets the MTU.",
    },
    Hint {
        causes: &[],
        topic: "/gids",
        commands: &["run", "serve"],
        names: "--gid-index",
        sentence: "--gid-index N selects the GID.",
    },
    Hint {
        causes: &[],
        topic: "reliable connection",
        commands: &["run"],
        names: "--connection rc",
        sentence: "--connection rc selects a reliable connection.",
    },
    Hint {
        causes: &[],
        topic: "journal",
        commands: &["run", "serve", "export", "bind"],
        names: "peerpath restore",
        sentence: "`peerpath restore` reverts what the journal lists.",
    },
];

/// Command line of this process. It decides which hints apply.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommandLine {
    command: String,
    options: Vec<String>,
}

impl CommandLine {
    /// Creates the command line from `arguments`: the command first, with the plan file already expanded.
    pub(crate) fn new(arguments: &[OsString]) -> Self {
        let mut texts = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
        Self { command: texts.next().unwrap_or_default(), options: texts.collect() }
    }

    /// The failure, with a hint in its remedy if one applies.
    pub(crate) fn complete(&self, mut failure: Failure) -> Failure {
        let explanation = &mut failure.explanation;
        explanation.remedy = match (explanation.cause, failure.severity) {
            (None, Severity::BadInput) => self.with_help(&self.remedy(None, &explanation.remedy)),
            (cause, _) => self.remedy(cause, &explanation.remedy),
        };
        failure
    }

    /// `remedy`, with the hint for `cause` after it if one applies.
    pub(crate) fn remedy(&self, cause: Option<Cause>, remedy: &str) -> String {
        let applies = |hint: &&Hint| {
            (hint.causes.is_empty() || cause.is_some_and(|cause| hint.causes.contains(&cause)))
                && remedy.contains(hint.topic)
                && hint.commands.contains(&self.command.as_str())
        };
        match HINTS.iter().find(applies) {
            Some(hint) if !remedy.contains(hint.names) && !self.has(hint.names) => {
                joined(remedy, &with_function(hint.sentence, remedy))
            }
            _ => remedy.to_owned(),
        }
    }

    /// Appends a pointer to `--help`, which describes every form of input, to a remedy for invalid input.
    fn with_help(&self, remedy: &str) -> String {
        let names_something = remedy.ends_with('?') || remedy.contains("--") || remedy.contains("peerpath ");
        if names_something || !OPENING.contains(&self.command.as_str()) {
            return remedy.to_owned();
        }
        joined(remedy, &format!("See `peerpath {} --help`.", self.command))
    }

    fn has(&self, option: &str) -> bool {
        let (name, value) = option.split_once(' ').unwrap_or((option, ""));
        self.options.iter().enumerate().any(|(at, argument)| match argument.strip_prefix(name) {
            Some("") => value.is_empty() || self.options.get(at + 1).is_some_and(|next| next == value),
            Some(rest) => rest.strip_prefix('=').is_some_and(|given| value.is_empty() || given == value),
            None => false,
        })
    }
}

/// The sentence, with the address of the function that the remedy names in place of `BDF`.
fn with_function(sentence: &str, remedy: &str) -> String {
    let named = remedy.split_whitespace().find_map(|word| word.parse::<Bdf>().ok());
    named.map_or_else(|| sentence.to_owned(), |bdf| sentence.replace(" BDF`", &format!(" {bdf}`")))
}

fn joined(remedy: &str, sentence: &str) -> String {
    match remedy.trim_end_matches('.') {
        "" => sentence.to_owned(),
        remedy => format!("{remedy}. {sentence}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str]) -> CommandLine {
        CommandLine::new(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn names_the_option_of_the_command() {
        let remedy = |arguments: &[&str]| line(arguments).remedy(Some(Cause::InUse), "Stop these uses.");
        assert!(remedy(&["bind", "0000:03:00.0"]).starts_with("Stop these uses. To unbind"));
        assert!(remedy(&["run"]).contains("--force-in-use"));
        assert_eq!(remedy(&["export"]), "Stop these uses.");
        assert_eq!(line(&["run"]).remedy(None, "Wait."), "Wait.");
    }

    #[test]
    fn offers_force_only_where_it_helps() {
        for other in ["End these uses; no option overrides them.", "Wait until that process exits, or end it."] {
            for command in ["run", "bind", "doctor"] {
                assert_eq!(line(&[command]).remedy(Some(Cause::InUse), other), other);
            }
        }
    }

    #[test]
    fn names_the_function_to_bind() {
        let bound = line(&["run"]).remedy(Some(Cause::DriverNotVfio), "Bind 0000:05:00.0 to vfio-pci.");
        let expected =
            "Bind 0000:05:00.0 to vfio-pci. `peerpath bind 0000:05:00.0` does this, and `peerpath restore` reverts it.";
        assert_eq!(bound, expected);
        let unknown = line(&["explain"]).remedy(Some(Cause::DriverNotVfio), "Bind the function to vfio-pci.");
        assert!(unknown.contains("`peerpath bind BDF`"), "{unknown}");
    }

    #[test]
    fn names_nothing_twice() {
        let remedy = |arguments: &[&str]| line(arguments).remedy(Some(Cause::InUse), "Stop these uses.");
        assert_eq!(remedy(&["run", "--force-in-use"]), "Stop these uses.");
        let named = "Bind it: `peerpath bind 0000:03:00.0`.";
        assert_eq!(line(&["run"]).remedy(Some(Cause::DriverNotVfio), named), named);
        let staged = |arguments: &[&str]| line(arguments).remedy(Some(Cause::ImporterNotP2p), "");
        assert_eq!(staged(&["run", "--path=staged"]), "");
        assert!(staged(&["run", "--path", "bypass"]).contains("--path staged"));
    }

    #[test]
    fn some_hints_depend_on_the_topic_of_the_remedy() {
        let remedy = |cause, text: &str| line(&["run"]).remedy(cause, text);
        assert_eq!(remedy(Some(Cause::NoPermission), "Run as root."), "Run as root.");
        assert!(remedy(Some(Cause::NoPermission), "Name the blocks.").contains("--allow-write"));
        assert!(remedy(None, "See the journal.").contains("peerpath restore"));
        assert!(remedy(None, "Start the server on the other host.").contains("peerpath serve"));
        assert!(remedy(None, "Use another MTU.").contains("--mtu"));
        let no_socket = remedy(Some(Cause::NoDevice), "Start the exporting program first, with the same path.");
        assert!(no_socket.contains("peerpath export") && !no_socket.contains("peerpath list"), "{no_socket}");
    }

    #[test]
    fn refers_invalid_input_to_the_help() {
        let remedy = |text: &str| line(&["run"]).complete(Failure::bad_input("x", "y", text)).explanation.remedy;
        assert_eq!(remedy("use a known form"), "use a known form. See `peerpath run --help`.");
        assert_eq!(remedy("use another --size"), "use another --size");
    }
}
