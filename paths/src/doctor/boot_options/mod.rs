//! The check of the kernel command line: options without effect, and lists of functions that match other functions than
//! intended.

mod known;

use std::collections::{BTreeMap, BTreeSet};

use super::context::few;
use super::{Context, Verdict};
use crate::function_list::{DISABLE_REDIRECT, Index, Pattern, cleared_at_boot};
use crate::{Bdf, Capability, CommandLine, Function, Platform, boot_option, printable_within};

use known::Meaning;

/// Parameters with a list of IDs of functions.
const ID_LISTS: [&str; 2] = ["vfio_pci.ids", "pci_stub.ids"];
/// A parameter of openEuler kernels: devices that bypass the SMMU.
const VENDOR_BYPASS: &str = "smmu.bypassdev";
/// The ACS options of `pci=`. Each takes a list of functions.
const LISTS: [&str; 2] = [DISABLE_REDIRECT, "config_acs="];

/// Whether this check covers a parameter, for at least one processor or kernel. `name` has underscores in place of dashes.
pub(crate) fn judges(name: &str) -> bool {
    let bare = name.trim_start_matches('\'');
    known::parameter_named(bare, None).is_some() || ID_LISTS.contains(&name) || name == VENDOR_BYPASS
}

pub(super) fn check(at: &Context<'_>) -> Vec<Verdict> {
    let Some(line) = &at.host().command_line else {
        if at.tree.text("proc/cmdline").is_some_and(|text| !CommandLine::is_possible(&text)) {
            return vec![Verdict::unknown(
                "host",
                "The boot options are unknown: proc/cmdline of the snapshot is longer than the kernel accepts.",
                "Replace proc/cmdline in the snapshot with that of the host.",
            )];
        }
        return vec![Verdict::unknown(
            "host",
            "The boot options are unknown: the snapshot or lspci output does not contain the kernel command line.",
            "Add proc/cmdline to the snapshot, or give the kernel command line.",
        )];
    };
    let index = Index::of(at.topology());
    let mut found = Vec::new();
    for (name, value) in line.parameters() {
        match name {
            _ if has_single_quotes(name, value) => found.push(quoted(name, value)),
            "pci" => found.extend(pci(at, &index, value)),
            _ if ID_LISTS.contains(&name) => found.extend(ids(&index, name, value)),
            _ => found.extend(other(at, name, value)),
        }
    }
    found.extend(LISTS.iter().filter_map(|list| superseded(at, list)));
    if found.is_empty() {
        found.push(Verdict::pass("host", "The kernel has every PCI and IOMMU option of its command line."));
    }
    found
}

/// Makes text of the command line printable, and limits its length.
fn printable(text: &str) -> String {
    const MOST_CHARACTERS: usize = 4096;
    printable_within(text, MOST_CHARACTERS)
}

/// Whether single quotes reached the kernel as part of a PCI or IOMMU option. The kernel removes only double quotes.
fn has_single_quotes(name: &str, value: &str) -> bool {
    let bare = name.trim_start_matches('\'');
    known::parameter_named(bare, None) == Some(Meaning::Known) && (bare != name || value.contains('\''))
}

fn quoted(name: &str, value: &str) -> Verdict {
    let shown = if value.is_empty() { name.to_owned() } else { format!("{name}={value}") };
    let without = printable(&shown.replace('\'', ""));
    Verdict::warn(
        "host",
        format!(
            "The single quotes in {} reached the kernel as part of the option, so the quoted text has no effect.",
            printable(&shown)
        ),
        format!("Boot with {}.", boot_option::for_grub(&without)),
    )
}

/// The findings for a parameter other than `pci=`.
fn other(at: &Context<'_>, name: &str, value: &str) -> Vec<Verdict> {
    let cpu = at.host().cpu.as_ref();
    let shown = if value.is_empty() { name.to_owned() } else { format!("{name}={value}") };
    if name == VENDOR_BYPASS {
        let release = at.tree.text("proc/sys/kernel/osrelease").unwrap_or_default();
        if release.contains(".oe") {
            return Vec::new();
        }
        return vec![Verdict::warn(
            "host",
            format!("Only vendor kernels (openEuler) have the option {}; other kernels ignore it.", printable(&shown)),
            "Check the kernel log for the devices that bypass the SMMU.",
        )];
    }
    match known::parameter_named(name, cpu) {
        None => Vec::new(),
        Some(Meaning::Known) => {
            value.split(',').filter(|word| !word.is_empty()).filter_map(|word| judged(at, name, word)).collect()
        }
        Some(meaning) => useless(at, name, value, &shown, meaning).into_iter().collect(),
    }
}

/// The findings for one value of `pci=`, whose options are separated by commas.
fn pci(at: &Context<'_>, index: &Index<'_>, value: &str) -> Vec<Verdict> {
    let mut found = Vec::new();
    let words: Vec<&str> = value.split(',').collect();
    let mut next = 0;
    while let Some(word) = words.get(next) {
        next += 1;
        let Some((option, list)) = LISTS.iter().find_map(|option| Some((*option, word.strip_prefix(option)?))) else {
            found.extend((!word.is_empty()).then(|| judged(at, "pci", word)).flatten());
            continue;
        };
        // Users separate functions by commas, but the kernel reads the text after a comma as the next option of pci=.
        let lost = words[next..].iter().take_while(|word| is_entry(word)).count();
        if lost > 0 {
            found.push(cut_off(option, list, &words[next..next + lost]));
            next += lost;
        }
        match judged(at, "pci", word) {
            Some(verdict) => found.push(verdict),
            None => found.extend(entries(at, index, option, list)),
        }
    }
    found
}

/// Whether a word is an entry of a list of functions, with or without the flags of `config_acs=`.
fn is_entry(word: &str) -> bool {
    word.split(';').all(|entry| Pattern::parse(without_flags(entry)).is_some())
}

fn without_flags(entry: &str) -> &str {
    entry.split_once('@').map_or(entry, |(_, function)| function)
}

fn cut_off(option: &str, list: &str, lost: &[&str]) -> Verdict {
    let lost: Vec<_> = lost.iter().map(|word| printable(word)).collect();
    let whole = format!("pci={option}{};{}", printable(list), lost.join(";"));
    Verdict::warn(
        "host",
        format!(
            "The list of pci={option} ends at the first comma: it contains {} only, and {} has no effect.",
            printable(list).replace(';', ", "),
            lost.join(", ")
        ),
        format!("Separate the functions by semicolons. Boot with {}.", boot_option::for_grub(&whole)),
    )
}

/// The findings for the entries of a list of functions: invalid entries, entries that match no function with ACS, and ports whose
/// redirect is still set. The kernel stops at an entry that it cannot parse.
fn entries(at: &Context<'_>, index: &Index<'_>, option: &str, list: &str) -> Vec<Verdict> {
    let mut found = Vec::new();
    let mut still_redirecting = BTreeMap::new();
    let with_flags = option == "config_acs=";
    let all: Vec<&str> = list.strip_suffix(';').unwrap_or(list).split(';').collect();
    for (position, entry) in all.iter().enumerate() {
        let shown = printable(entry);
        let flags = entry.split_once('@').map(|(flags, _)| flags);
        if with_flags && flags.is_none() {
            found.push(Verdict::warn(
                "host",
                format!("pci={option} has no flags for {shown}, so the kernel ignores this function and the ones after it."),
                "Write FLAGS@FUNCTION for every function, separated by semicolons (in GRUB's configuration in single quotes).",
            ));
            break;
        }
        if flags.filter(|_| with_flags).is_some_and(|flags| flags.contains(|flag| !"01xX".contains(flag))) {
            found.push(Verdict::warn(
                "host",
                format!("pci={option} has invalid flags in {shown}, so the kernel ignores this function and the ones after it."),
                "Write one character per ACS bit, the lowest bit last: 0 clears it, 1 sets it, x keeps it.",
            ));
            break;
        }
        if entry.is_empty() {
            found.push(Verdict::warn(
                "host",
                format!("pci={option} contains an empty entry, so the kernel ignores the functions after it."),
                "Remove the superfluous semicolon.",
            ));
            break;
        }
        let Some(pattern) = Pattern::parse(if with_flags { without_flags(entry) } else { entry }) else {
            let rest = all.len() - position - 1;
            let rest = if rest == 0 { String::new() } else { format!(", and the kernel ignores the {rest} after it") };
            found.push(Verdict::warn(
                "host",
                format!("pci={option} contains {shown}, which is not an address of a function{rest}."),
                "Write an address such as 0000:03:00.0, or pci:VENDOR:DEVICE.",
            ));
            break;
        };
        let functions: Vec<&Function> = index.matches(&pattern);
        found.extend(entry_verdict(at, option, &shown, &functions));
        let redirects = |function: &&&Function| function.redirects().present().is_some();
        let kept = functions.iter().filter(redirects).filter(|_| option == DISABLE_REDIRECT);
        still_redirecting
            .extend(kept.filter_map(|function| Some((function.bdf, function.acs.present()?.redirect_names()))));
    }
    found.extend(kept_redirect(option, &still_redirecting));
    found
}

/// One finding for all ports of a list whose ACS redirect is set although the list clears it.
fn kept_redirect(option: &str, ports: &BTreeMap<Bdf, String>) -> Option<Verdict> {
    let shown: Vec<_> = ports.iter().map(|(bdf, bits)| format!("{bdf} ({bits})")).collect();
    let subject = match ports.first_key_value() {
        Some((bdf, _)) if ports.len() == 1 => bdf.to_string(),
        Some(_) => "host".to_owned(),
        None => return None,
    };
    Some(Verdict::warn(
        subject,
        format!("ACS redirect is still set on ports that pci={option} names: {}.", few(&shown)),
        "Look for `Cannot disable ACS redirect` in the kernel log, and for programs that set ACS (setpci) after boot.",
    ))
}

/// Whether the command line already clears the ACS redirect of all of these ports.
pub(super) fn clears_redirect_of(at: &Context<'_>, ports: &BTreeSet<Bdf>) -> bool {
    !ports.is_empty() && ports.is_subset(&cleared_at_boot(at.host(), at.topology()))
}

/// The finding for one entry of a list; `None` if a function that it matches has or may have ACS.
fn entry_verdict(at: &Context<'_>, option: &str, shown: &str, functions: &[&Function]) -> Option<Verdict> {
    if functions.is_empty() {
        return Some(Verdict::warn(
            "host",
            format!("pci={option} names {shown}, but no such function exists, so the entry has no effect."),
            if without_flags(shown).starts_with("pci:") {
                "Correct the IDs (`lspci -nn` lists them), or remove the entry."
            } else {
                "Correct the address (`lspci -D` lists the addresses; moving a card changes them), or remove it."
            },
        ));
    }
    if functions.iter().all(|function| function.acs == Capability::Absent) {
        let function = functions[0];
        let port = at.topology().bridges_above(function.bdf).into_iter().find(|bdf| {
            at.topology().function(*bdf).is_some_and(|bridge| matches!(bridge.acs, Capability::Present(_)))
        });
        let remedy = port.map_or_else(
            || "Remove it: no port above the function has ACS either.".to_owned(),
            |port| format!("Name the port above it: {port}."),
        );
        let what = if function.is_bridge() { "a bridge without ACS" } else { "not a bridge and has no ACS" };
        return Some(Verdict::warn(
            "host",
            format!("pci={option} names {shown}, which is {what}, so the entry has no effect."),
            remedy,
        ));
    }
    None
}

/// The finding for a list that a later list of the same option replaces. The kernel keeps one pointer per option.
fn superseded(at: &Context<'_>, option: &str) -> Option<Verdict> {
    let line = at.host().command_line.as_ref()?;
    let words = line.values("pci").flat_map(|value| value.split(','));
    let lists: Vec<_> = words.filter_map(|word| word.strip_prefix(option)).collect();
    let (last, earlier) = lists.split_last()?;
    (!earlier.is_empty() && earlier.iter().any(|list| list != last)).then(|| {
        let mut joined: Vec<String> = Vec::new();
        for entry in lists.iter().flat_map(|list| list.split(';')).filter(|entry| is_entry(entry)) {
            let entry = printable(entry);
            if !joined.contains(&entry) {
                joined.push(entry);
            }
        }
        let remedy = if joined.is_empty() {
            "Write one list of addresses, separated by semicolons.".to_owned()
        } else {
            format!(
                "Join the lists. Boot with {}.",
                boot_option::for_grub(&format!("pci={option}{}", joined.join(";")))
            )
        };
        Verdict::warn(
            "host",
            format!("pci={option} is given {} times, and the kernel uses only the last list.", lists.len()),
            remedy,
        )
    })
}

/// The finding for one word of a known parameter; `None` if the kernel has the option.
fn judged(at: &Context<'_>, name: &str, word: &str) -> Option<Verdict> {
    let meaning = known::word(name, word, at.host().cpu.as_ref(), at.host().kernel);
    useless(at, name, word, &format!("{name}={word}"), meaning)
}

fn useless(at: &Context<'_>, name: &str, word: &str, shown: &str, meaning: Meaning) -> Option<Verdict> {
    let shown = printable(shown);
    let detail = match meaning {
        Meaning::Known => return None,
        Meaning::Unknown => format!("The kernel has no option {shown}, so this option has no effect."),
        Meaning::OtherProcessor(on) => {
            format!("The option {shown} applies to {}, so it has no effect here.", on.name())
        }
        Meaning::Newer(since) => {
            format!(
                "The option {shown} exists since Linux {since}, so it has no effect here unless the distribution backported it."
            )
        }
    };
    // Xen controls the IOMMU, so the IOMMU options of dom0's kernel have no effect.
    let concerns_xen = at.platform == Some(Platform::XenDom0) && name.contains("iommu");
    let wanted = if concerns_xen { "" } else { known::wanted(name, word, at.host().cpu.as_ref()) };
    let remedy = if wanted.is_empty() { "Remove it.".to_owned() } else { format!("Remove it. {wanted}") };
    Some(Verdict::warn("host", detail, remedy))
}

/// The finding for IDs that a stub driver should bind, but that no function has.
fn ids(index: &Index<'_>, name: &str, value: &str) -> Option<Verdict> {
    if !index.ids_known {
        return None;
    }
    let is_absent = |entry: &&str| {
        let mut numbers = entry.split(':').map(|id| u32::from_str_radix(id, 16).ok());
        let (Some(Some(vendor)), Some(Some(device))) = (numbers.next(), numbers.next()) else { return false };
        let ids = u16::try_from(vendor).ok().zip(u16::try_from(device).ok());
        ids.is_some_and(|(vendor, device)| !index.has_ids(vendor, device))
    };
    let absent: Vec<_> = value.split(',').filter(is_absent).map(printable).collect();
    (!absent.is_empty()).then(|| {
        Verdict::warn(
            "host",
            format!("{name} names IDs that no function of this host has: {}.", few(&absent)),
            "Correct the IDs (`lspci -nn` lists them), or remove them.",
        )
    })
}
