//! Writes the facts of the lspci output as the files of sysfs and procfs.

use super::hierarchy::Hierarchy;
use super::{Listing, Shown};
use crate::Bdf;
use crate::config::KNOWN_CONFIG;
use crate::tree::archive::Archive;
use crate::tree::given;

/// The files of the host that the lspci output describes.
pub(in crate::tree) fn write(listing: &Listing) -> Archive {
    let hierarchy = Hierarchy::of(listing);
    let mut files = Archive::empty();
    for (&bdf, shown) in &listing.functions {
        let directory = hierarchy.directory(bdf);
        let target = directory.strip_prefix("sys/").unwrap_or(&directory);
        files.link(format!("sys/bus/pci/devices/{bdf}"), format!("../../../{target}"));
        function(bdf, shown, &hierarchy, &directory, &mut files);
    }
    let text = |text: &str| format!("{text}\n").into_bytes();
    if let Some(release) = &listing.release {
        files.file("proc/sys/kernel/osrelease".to_owned(), text(release));
    }
    if let Some(line) = &listing.command_line {
        files.file("proc/cmdline".to_owned(), text(line));
    }
    if let Some(processor) = given::cpuinfo(&listing.processor) {
        files.file("proc/cpuinfo".to_owned(), text(&processor));
    }
    files
}

fn function(bdf: Bdf, shown: &Shown, hierarchy: &Hierarchy, directory: &str, files: &mut Archive) {
    files.directory(directory);
    let mut file = |name: &str, text: String| files.file(format!("{directory}/{name}"), text.into_bytes());
    for (name, id) in [("vendor", shown.vendor), ("device", shown.device)] {
        if let Some(id) = id {
            file(name, format!("{id:#06x}\n"));
        }
    }
    if let Some(class) = shown.class {
        let interface = shown.programming_interface.unwrap_or_default();
        file("class", format!("{class:#06x}{interface:02x}\n"));
    }
    if let Some(node) = shown.numa_node {
        file("numa_node", format!("{node}\n"));
    }
    if let Some(resource) = &shown.resource {
        file("resource", resource.clone());
    }
    let physical = hierarchy.physical_function(bdf);
    let mut config = shown.config.clone();
    if shown.is_virtual && physical.is_none() {
        // The Command register of a virtual function does not show whether memory decoding is on.
        config.forget(4, 2);
    }
    let (bytes, known) = config.files(shown.whole_dump);
    if !bytes.is_empty() {
        files.file(format!("{directory}/config"), bytes);
        if let Some(known) = known {
            files.file(format!("{directory}/{KNOWN_CONFIG}"), known);
        }
    }
    let mut link = |name: &str, target: String| files.link(format!("{directory}/{name}"), target);
    if let Some(physical) = physical {
        link("physfn", format!("../{physical}"));
    }
    if let Some(Some(driver)) = &shown.driver {
        link("driver", format!("/sys/bus/pci/drivers/{}", driver.replace('/', "?")));
    }
    if let Some(Some(group)) = shown.group {
        link("iommu_group", format!("/sys/kernel/iommu_groups/{group}"));
    }
    // Every function of sysfs has this link. With it, a missing link to a driver or a group means that there is none.
    if shown.driver.is_some() && shown.group.is_some() {
        link("subsystem", "/sys/bus/pci".to_owned());
    }
}
