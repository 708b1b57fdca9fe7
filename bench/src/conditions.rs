//! Settings of a host that affect figures: CPU frequency, memory and firmware.

use std::collections::{BTreeMap, BTreeSet};

use peerpath_paths::Tree;

/// Name in the result, and file below the root.
const FILES: [(&str, &str); 8] = [
    ("smt_active", "sys/devices/system/cpu/smt/active"),
    ("boost", "sys/devices/system/cpu/cpufreq/boost"),
    ("isolated_cpus", "sys/devices/system/cpu/isolated"),
    ("nohz_full_cpus", "sys/devices/system/cpu/nohz_full"),
    ("microcode", "sys/devices/system/cpu/cpu0/microcode/version"),
    ("bios_version", "sys/class/dmi/id/bios_version"),
    ("bios_date", "sys/class/dmi/id/bios_date"),
    ("numa_balancing", "proc/sys/kernel/numa_balancing"),
];

/// The settings that the kernel of this host reports, by name. A setting that cannot be read is absent.
///
/// The files are described in the kernel's `Documentation/ABI/testing/sysfs-devices-system-cpu` and
/// `Documentation/admin-guide/mm/transhuge.rst`.
pub fn read(tree: &Tree) -> BTreeMap<String, String> {
    let read = |(name, file): (&str, &str)| Some((name.to_owned(), tree.text(file).filter(|text| is_set(text))?));
    let mut conditions: BTreeMap<String, String> = FILES.into_iter().filter_map(read).collect();
    // Intel's driver has the inverse switch instead of `boost`.
    if let Some(no_turbo) = tree.text("sys/devices/system/cpu/intel_pstate/no_turbo") {
        conditions.insert("boost".to_owned(), if no_turbo == "1" { "0" } else { "1" }.to_owned());
    }
    if let Some(choices) = tree.text("sys/kernel/mm/transparent_hugepage/enabled") {
        let chosen = choices.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        conditions.extend(chosen.map(|chosen| ("transparent_hugepages".to_owned(), chosen.to_owned())));
    }
    let governors = governors(tree);
    if !governors.is_empty() {
        conditions.insert("cpu_governor".to_owned(), governors.into_iter().collect::<Vec<_>>().join(", "));
    }
    conditions
}

/// The kernel reports an empty list of CPUs as an empty line or as `(null)`.
fn is_set(text: &str) -> bool {
    !["", "(null)"].contains(&text)
}

/// The frequency governors of all CPUs.
fn governors(tree: &Tree) -> BTreeSet<String> {
    let folder = "sys/devices/system/cpu/cpufreq";
    let policies = tree.names(folder).into_iter().filter(|name| name.starts_with("policy"));
    policies.filter_map(|policy| tree.text(&format!("{folder}/{policy}/scaling_governor"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        read(&Tree::open(root.path()).unwrap())
    }

    #[test]
    fn reads_each_setting_and_omits_what_is_unset() {
        let cpu = "sys/devices/system/cpu";
        let read = of(&[
            (&format!("{cpu}/smt/active"), "1\n"),
            (&format!("{cpu}/isolated"), "\n"),
            (&format!("{cpu}/nohz_full"), "(null)\n"),
            (&format!("{cpu}/intel_pstate/no_turbo"), "0\n"),
            (&format!("{cpu}/cpufreq/policy0/scaling_governor"), "powersave\n"),
            (&format!("{cpu}/cpufreq/policy1/scaling_governor"), "performance\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/class/dmi/id/bios_version", "1.8.2\n"),
        ]);
        let expected = [
            ("bios_version", "1.8.2"),
            ("boost", "1"),
            ("cpu_governor", "performance, powersave"),
            ("smt_active", "1"),
            ("transparent_hugepages", "madvise"),
        ];
        assert_eq!(read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
        assert!(of(&[]).is_empty());
    }
}
